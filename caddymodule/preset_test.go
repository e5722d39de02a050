package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// presetSecret is the secret of a preset's source in tests, and presetForm the form of a secret of Standard Webhooks.
const (
	presetSecret = "s3cret"
	presetForm   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

func secretOf(preset string) string {
	if preset == "replicate" {
		return presetForm
	}
	return presetSecret
}

// presetHandler returns a handler of a source that is named like its preset.
func presetHandler(t *testing.T, preset, url string) *Handler {
	t.Helper()
	block := "{\n secret previous " + secretOf(preset) + "\n}"
	switch preset {
	case "fal":
		block = ""
	case "replicate":
		block = "{\n secret " + secretOf(preset) + "\n}"
	}
	h := new(Handler)
	text := "relay " + preset + " {\n provider " + preset + " " + block + "\n to " + url + "\n}"
	if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
		t.Fatalf("%s: %v", preset, err)
	}
	return h
}

// presetConfig is the same handler in JSON.
func presetConfig(preset, url string) map[string]any {
	provider := map[string]any{"name": preset}
	switch preset {
	case "fal":
	case "replicate":
		provider["secret"] = secretOf(preset)
	default:
		provider["secret"] = []string{"previous", secretOf(preset)}
	}
	return map[string]any{"handler": "relay", "source": preset, "provider": provider, "destinations": []any{map[string]any{"url": url}}}
}

// samples returns the payloads of a sender, in the order in which it sends them.
func samples(t *testing.T, preset string) (bodies []string) {
	t.Helper()
	pattern := filepath.Join("testdata", "presets", preset, "*.json")
	if preset == kieName { // whose provider has its own
		pattern = "../relay/provider/testdata/family/kie-market*.json"
	}
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: no samples: %v", preset, err)
	}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(body))
	}
	return bodies
}

// sentCallback is a callback that a sender signs.
type sentCallback struct {
	Sender  string `json:"sender"`
	Body    string `json:"body"`
	Message string `json:"message"` // the id of the message, or of the delivery
	Secret  string `json:"secret"`
	At      int64  `json:"at"` // Unix seconds

	proof proof
}

// proof holds what a callback has besides its body.
type proof struct {
	Headers map[string]string
	Query   string
}

// signAll lets Node's crypto sign callbacks, and returns the public key of the sender that has one.
func signAll(t *testing.T, callbacks []*sentCallback) (key string) {
	t.Helper()
	in, err := json.Marshal(callbacks)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", "testdata/presets/sign.mjs")
	var complaints strings.Builder
	node.Stdin, node.Stderr = bytes.NewReader(in), &complaints
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, &complaints)
	}
	var signed struct {
		Key    string
		Proofs []proof
	}
	if err := json.Unmarshal(out, &signed); err != nil || len(signed.Proofs) != len(callbacks) {
		t.Fatalf("%d proofs: %v", len(signed.Proofs), err)
	}
	for i, c := range callbacks {
		c.proof = signed.Proofs[i]
	}
	return signed.Key
}

// TestPresets sends what each sender sends to a source with its preset: signed as the sender signs, all of it becomes
// events, and what is sent again becomes none; wrongly signed, unsigned, changed or late, nothing does.
func TestPresets(t *testing.T) {
	now := time.Now().Unix()
	g := newGateway(t)
	consumer := newConsumer(t, http.StatusOK)
	type sent struct{ first, again, wrong, late []*sentCallback }
	all := map[string]*sent{}
	var callbacks []*sentCallback
	for preset := range presets {
		s := new(sent)
		for i, body := range samples(t, preset) {
			c := sentCallback{Sender: preset, Body: body, Message: "message-" + string(rune('1'+i)), Secret: secretOf(preset), At: now}
			again, wrong, late := c, c, c
			again.At++
			wrong.Secret = "whsec_" + strings.Repeat("b2xk", 6)
			late.At -= 3600
			s.first, s.again = append(s.first, &c), append(s.again, &again)
			s.wrong, s.late = append(s.wrong, &wrong), append(s.late, &late)
		}
		all[preset] = s
		callbacks = slices.Concat(callbacks, s.first, s.again, s.wrong, s.late)
	}
	key := signAll(t, callbacks)

	var handlers []map[string]any
	for preset := range presets {
		handler := presetConfig(preset, consumer.URL)
		if preset == "fal" { // whose key set is not to be had in a test; the verifier's own tests fetch one
			config, err := json.Marshal(presetHandler(t, preset, consumer.URL))
			if err != nil {
				t.Fatal(err)
			}
			config = bytes.Replace(config, []byte(`"jwks":"https://rest.fal.ai/.well-known/jwks.json"`), []byte(`"key":"`+key+`"`), 1)
			handler = map[string]any{"handler": "relay"}
			if err := json.Unmarshal(config, &handler); err != nil {
				t.Fatal(err)
			}
		}
		handlers = append(handlers, handler)
	}
	g.mustLoad(`{}`, handlers...)

	var want []string
	for preset, s := range all {
		timed := slices.Contains([]string{"kie", "replicate", "fal", "elevenlabs", "mux", "stripe"}, preset)
		covered := timed && preset != kieName || preset == "github" || preset == "shopify"
		proven := func(c *sentCallback) reply {
			t.Helper()
			return g.send(preset+"?"+c.proof.Query, "application/json", c.Body, c.proof.Headers)
		}
		refused := func(what string, c *sentCallback) {
			t.Helper()
			if got := proven(c); got.status != http.StatusUnauthorized {
				t.Errorf("%s, %s: %+v", preset, what, got)
			}
		}
		ids := map[string]bool{}
		for i, c := range s.first {
			unsigned := *c
			unsigned.proof = proof{}
			refused("unsigned", &unsigned)
			refused("wrongly signed", s.wrong[i])
			if timed {
				refused("an hour late", s.late[i])
			}
			if covered {
				changed := *c
				changed.Body += " "
				refused("another body", &changed)
			}
			first := proven(c)
			if first.status != http.StatusOK || first.event == "" || first.duplicate || ids[first.event] {
				t.Errorf("%s: %+v", c.Body, first)
			}
			ids[first.event] = true
			want = append(want, c.Body)
			for _, repeated := range []*sentCallback{c, s.again[i]} {
				if got := proven(repeated); got != (reply{http.StatusOK, first.event, true}) {
					t.Errorf("%s, again: %+v, not of event %s", c.Body, got, first.event)
				}
			}
		}
	}
	var got []string
	for range want {
		got = append(got, consumer.await(t))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("delivered\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	select {
	case body := <-consumer.got:
		t.Errorf("delivered twice: %s", body)
	default:
	}
}

// TestPresetKeepsItsVerifier refuses a callback that has the operator's token and not the sender's signature.
func TestPresetKeepsItsVerifier(t *testing.T) {
	g := newGateway(t)
	handler := presetConfig("fal", "https://consumer.example.com")
	handler["verify"] = []any{map[string]any{"verifier": "token", "secret": presetSecret, "query": "token"}}
	g.mustLoad(`{}`, handler)
	if got := g.send("fal?token="+presetSecret, "application/json", samples(t, "fal")[0], nil); got.status != http.StatusUnauthorized {
		t.Errorf("unsigned: %+v", got)
	}
}

func TestPresetsRead(t *testing.T) {
	for preset, want := range map[string][]relay.Task{
		"replicate": {
			{ID: "rp1aexample0000000000000001", Stage: "starting"},
			{ID: "rp1aexample0000000000000001", Stage: "processing", Files: []string{"https://replicate.delivery/xezq/1/vocals.mp3"}},
			{ID: "rp1aexample0000000000000001", Stage: "processing", Files: []string{"https://replicate.delivery/xezq/1/vocals.mp3"}},
			{ID: "rp1aexample0000000000000001", Stage: "succeeded", Files: []string{
				"https://replicate.delivery/xezq/1/vocals.mp3", "https://replicate.delivery/xezq/1/drums.mp3", "https://replicate.delivery/xezq/1/other.mp3",
			}},
		},
		"fal": {
			{ID: "00000000-0000-4000-8000-00000000fa01", Stage: "OK", Files: []string{"https://v3.fal.media/files/example/image.png"}},
			{ID: "00000000-0000-4000-8000-00000000fa02", Stage: "ERROR"},
		},
		"elevenlabs": {
			{ID: "conv_example_1", Stage: "post_call_transcription"},
			{ID: "conv_example_1", Stage: "post_call_audio"},
			{ID: "stt_example_1", Stage: "speech_to_text_transcription"},
			{Stage: "of_tomorrow"}, // the id is the body's hash
		},
		"mux": {
			{ID: "00000000-0000-4000-8000-0000000e0001", Stage: "video.asset.ready"},
			{ID: "00000000-0000-4000-8000-0000000e0002", Stage: "video.asset.master.ready", Files: []string{"https://master.mux.com/example/master.mp4"}},
		},
		"stripe":  {{ID: "evt_1ExampleOfSucceeded", Stage: "payment_intent.succeeded"}, {ID: "evt_1ExampleOfRefunded", Stage: "charge.refunded"}},
		"github":  {{ID: "delivery-1", Stage: "opened"}, {ID: "delivery-1"}},
		"shopify": {{ID: "delivery-1"}, {ID: "delivery-1"}},
		"assemblyai": {
			{ID: "00000000-16d8-42d8-8feb-00000000aa01", Stage: "completed"},
			{Stage: "redacted_audio_ready", Files: []string{"https://s3.example.com/redacted-audio/00000000-16d8-42d8-8feb-00000000aa01.mp3?Expires=1763629800"}},
		},
		"runpod": {
			{ID: "00000000-3ad1-4c37-a1b2-00000000rp01-u1", Stage: "COMPLETED", Files: []string{"https://bucket.example.com/out/1.png"}},
			{ID: "00000000-3ad1-4c37-a1b2-00000000rp02-u1", Stage: "FAILED"},
		},
		"luma": {
			{ID: "00000000-4a3b-4c5d-8e6f-00000000d001", Stage: "queued"},
			{ID: "00000000-4a3b-4c5d-8e6f-00000000d001", Stage: "dreaming"},
			{ID: "00000000-4a3b-4c5d-8e6f-00000000d001", Stage: "dreaming", Files: []string{"https://storage.cdn-luma.com/dream_machine/example/thumb.jpg"}},
			{ID: "00000000-4a3b-4c5d-8e6f-00000000d001", Stage: "completed", Files: []string{
				"https://storage.cdn-luma.com/dream_machine/example/video.mp4", "https://storage.cdn-luma.com/dream_machine/example/thumb.jpg",
			}},
		},
		"piapi": {
			{ID: "00000000-a5b4-4c3d-9e2f-00000000b001", Stage: "processing", Code: "0"},
			{ID: "00000000-a5b4-4c3d-9e2f-00000000b001", Stage: "processing", Code: "0"},
			{ID: "00000000-a5b4-4c3d-9e2f-00000000b001", Stage: "completed", Code: "0", Files: []string{"https://img.theapi.app/example/a.mp3"}},
		},
	} {
		h := presetHandler(t, preset, "https://consumer.example.com")
		var custom struct {
			Name string
			Custom
		}
		if err := json.Unmarshal(h.ProviderRaw, &custom); err != nil || custom.Name != "custom" {
			t.Fatalf("%s: provider %s: %v", preset, h.ProviderRaw, err)
		}
		p, err := custom.build()
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{"X-Github-Delivery": {"delivery-1"}, "X-Shopify-Webhook-Id": {"delivery-1"}}
		bodies := samples(t, preset)
		if len(bodies) != len(want) {
			t.Fatalf("%s: %d samples", preset, len(bodies))
		}
		for i, body := range bodies {
			format := payload.JSON
			if h.Body == "any" {
				format = payload.Any
			}
			got, err := p.Read([]byte(body), header, relay.ReadOptions{Format: format})
			if want[i].ID == "" && len(got.ID) == 64 {
				got.ID = ""
			}
			if err != nil || got.ID != want[i].ID || got.Stage != want[i].Stage || got.Code != want[i].Code || !slices.Equal(got.Files, want[i].Files) {
				t.Errorf("%s: %+v, %v, not %+v", body, got.Task, err, want[i])
			}
		}
	}
}

// TestPresetInJSON configures presets in JSON, where they stand for the same as in a Caddyfile.
func TestPresetInJSON(t *testing.T) {
	for preset := range presets {
		want := presetHandler(t, preset, "https://consumer.example.com")
		config, err := json.Marshal(presetConfig(preset, "https://consumer.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		got := new(Handler)
		if err := json.Unmarshal(config, got); err != nil {
			t.Fatal(err)
		}
		for range 2 { // what is expanded stays as it is
			if err := got.expandPreset(); err != nil {
				t.Fatalf("%s: %v", preset, err)
			}
			a, _ := canonicalJSON(got)
			b, _ := canonicalJSON(want)
			if !bytes.Equal(a, b) {
				t.Errorf("%s: %s, not %s", preset, a, b)
			}
		}
	}
	for provider, want := range map[string]string{
		`{"name":"stripe","secrets":"a"}`:            `unknown field "secrets"`,
		`{"name":"stripe","secret":7}`:               "cannot unmarshal number",
		`{"name":"stripe","secret":"{x}"}`:           "placeholder",
		`{"name":"replicate","secret":"not base64"}`: "whsec_",
		`{"name":"fal","secret":"what"}`:             "expected no secret",
		`{"name":"kie","secrets":"a"}`:               `unknown field "secrets"`,
		`{"name":"kie","secret":"{x}"}`:              "placeholder",
	} {
		h := &Handler{Source: "a", ProviderRaw: json.RawMessage(provider)}
		if err := h.expandPreset(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", provider, err, want)
		}
	}
}

// TestSendersAreDocumented holds that docs/senders.md has a row of every provider, with its lines, and of what every preset
// stands for.
func TestSendersAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/senders.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) == 6 {
			rows[strings.Trim(cells[1], " `")]++
		}
	}
	for _, name := range moduleNames("relay.providers") {
		want := 1
		if presets[name].settings != "" {
			want = 2
			if !bytes.Contains(page, []byte("`provider "+name)) {
				t.Errorf("docs/senders.md does not show the line of %s", name)
			}
		}
		if rows[name] != want {
			t.Errorf("docs/senders.md has %d rows of %s, not %d", rows[name], name, want)
		}
	}
}
