package verifier

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Kie returns a verifier of kie.ai's signature: X-Webhook-Signature is the base64 of the HMAC-SHA256 of the task's id, a
// dot and X-Webhook-Timestamp. The body is not covered: it proves the task and the time, not the files' URLs.
// Tolerance 0 is DefaultTolerance.
func Kie(secrets []string, tolerance time.Duration) (relay.Verifier, error) {
	return HMAC(HMACOptions{
		Secrets:         secrets,
		Header:          "X-Webhook-Signature",
		Encoding:        "base64",
		Signed:          "{task_id}.{timestamp}",
		TimestampHeader: "X-Webhook-Timestamp",
		Tolerance:       tolerance,
	})
}
