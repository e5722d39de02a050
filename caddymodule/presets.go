package caddymodule

// presets are the senders that have a name, as lines of a Caddyfile. docs/senders.md says what they rest on.
//
// A stage is what tells two callbacks of one task apart; ack_within ends before the sender's patience does. Where a sender
// repeats its message under an id of that message, the id is the key; else what a callback says is (conflict deliver). A
// sender that proves itself may send what it likes (body any): better kept under its hash than refused.
var presets = map[string]struct {
	settings string // subdirectives of relay
	verify   string // the verifier that a secret is for, without it; empty where the sender signs with a published key
}{
	// A provider that knows its own fields, with the verifier that a secret is for.
	"kie": {settings: `provider kie`, verify: `kie`},

	"replicate": {
		settings: `
		provider custom {
			task_id id
			stage status
			files_under output
		}
		dedupe task_id header:webhook-id
		ack_within 4s`,
		verify: `standard_webhooks`,
	},

	"fal": {
		settings: `
		provider custom {
			task_id request_id
			stage status
			files_under payload
		}
		verify ed25519 {
			jwks https://rest.fal.ai/.well-known/jwks.json
			header X-Fal-Webhook-Signature
			signed "{header.X-Fal-Webhook-Request-Id}\n{header.X-Fal-Webhook-User-Id}\n{header.X-Fal-Webhook-Timestamp}\n{body_sha256}"
			timestamp_header X-Fal-Webhook-Timestamp
		}
		dedupe task_id stage`,
	},

	// No event has an id of its own; what it is about has.
	"elevenlabs": {
		settings: `
		provider custom {
			task_id data.conversation_id data.request_id data.voice_id
			stage type
		}
		body any
		dedupe task_id stage
		max_body 32MiB`,
		verify: `hmac {
			header ElevenLabs-Signature
			scheme v0
			timestamp t
		}`,
	},

	"mux": {
		settings: `
		provider custom {
			task_id id
			stage type
			files data.master.url
		}
		dedupe task_id
		ack_within 4s`,
		verify: `hmac {
			header Mux-Signature
			scheme v1
			timestamp t
			tolerance 5m
		}`,
	},

	"stripe": {
		settings: `
		provider custom {
			task_id id
			stage type
		}
		dedupe task_id`,
		verify: `hmac {
			header Stripe-Signature
			scheme v1
			timestamp t
			tolerance 5m
		}`,
	},

	"github": {
		settings: `
		provider custom {
			task_id header:X-GitHub-Delivery
			stage action
		}
		body any
		dedupe task_id
		max_body 25MiB
		ack_within 9s`,
		verify: `hmac {
			header X-Hub-Signature-256
			prefix sha256=
		}`,
	},

	"shopify": {
		settings: `
		provider custom {
			task_id header:X-Shopify-Webhook-Id
		}
		body any
		dedupe task_id
		ack_within 4s`,
		verify: `hmac {
			header X-Shopify-Hmac-Sha256
			encoding base64
		}`,
	},

	// What it sends when the redacted audio is ready has no id.
	"assemblyai": {
		settings: `
		provider custom {
			task_id transcript_id
			stage status
			files redacted_audio_url
		}
		body any
		dedupe task_id stage
		ack_within 9s`,
		verify: `token {
			header Authorization
		}`,
	},

	"runpod": {
		settings: `
		provider custom {
			task_id id
			stage status
			files_under output
		}
		dedupe task_id stage`,
		verify: `token {
			query token
		}`,
	},

	"luma": {
		settings: `
		provider custom {
			task_id id
			stage state
			files_under assets
		}
		dedupe task_id stage
		conflict deliver
		ack_within 4s`,
		verify: `token {
			query token
		}`,
	},

	"piapi": {
		settings: `
		provider custom {
			task_id data.task_id
			stage data.status
			code data.error.code
			files_under data.output
		}
		dedupe task_id stage path:timestamp
		conflict deliver`,
		verify: `token {
			header X-Webhook-Secret
		}`,
	},
}
