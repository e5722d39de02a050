package verifier

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/callbackrelay/caddy-relay/relay"
)

// StandardTolerance is how far Standard Webhooks' own libraries allow a timestamp to be from now.
const StandardTolerance = 5 * time.Minute

// StandardWebhooks returns a verifier of https://www.standardwebhooks.com. Secrets are the base64 of a key, with whsec_
// before it or without; any of them may have signed. Tolerance 0 is StandardTolerance.
func StandardWebhooks(secrets []string, tolerance time.Duration) (relay.Verifier, error) {
	if err := checkSecrets(secrets); err != nil {
		return nil, err
	}
	v := &standardVerifier{tolerance: tolerance}
	if err := checkTolerance(&v.tolerance, StandardTolerance); err != nil {
		return nil, err
	}
	for _, secret := range secrets {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil || len(key) == 0 {
			return nil, errors.New("a secret of Standard Webhooks must be whsec_ followed by base64")
		}
		webhook, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, err
		}
		v.webhooks = append(v.webhooks, webhook)
	}
	return v, nil
}

type standardVerifier struct {
	webhooks  []*standardwebhooks.Webhook
	tolerance time.Duration
}

func (v *standardVerifier) Verify(c *relay.Callback) error {
	for _, name := range v.Headers() {
		if _, err := one(c.Header, name); err != nil {
			return err
		}
	}
	// The library would compare with its own clock.
	if err := fresh(c.Header.Get(standardwebhooks.HeaderWebhookTimestamp), c.Now, v.tolerance); err != nil {
		return err
	}
	c.BodyCovered = true
	verified := false
	for _, webhook := range v.webhooks { // all of them, so that the time does not tell which one fits
		err := webhook.VerifyIgnoringTimestamp(c.Body, c.Header)
		verified = verified || err == nil
	}
	if !verified {
		return errMismatch
	}
	return nil
}

func (v *standardVerifier) NeedsBody() bool { return true }

func (v *standardVerifier) Headers() []string {
	return []string{
		standardwebhooks.HeaderWebhookID,
		standardwebhooks.HeaderWebhookTimestamp,
		standardwebhooks.HeaderWebhookSignature,
	}
}
