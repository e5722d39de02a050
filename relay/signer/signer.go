// Package signer signs what goes to destinations.
package signer

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/callbackrelay/caddy-relay/relay"
)

// secretPrefix marks a secret of Standard Webhooks; the base64 of the key follows it.
const secretPrefix = "whsec_"

// New returns a signer by Standard Webhooks (https://www.standardwebhooks.com, "Signature scheme"). Secrets are
// whsec_ and the base64 of the key. While a secret is being rotated, previous is the one before: both then sign, and the
// consumer may hold either. previous is empty at other times. An error does not show the secret.
func New(current, previous string) (relay.Signer, error) {
	var s signer
	for _, secret := range []string{current, previous} {
		if secret == "" && len(s) > 0 {
			break
		}
		encoded, ok := strings.CutPrefix(secret, secretPrefix)
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) == 0 {
			return nil, errors.New("a signing secret must be whsec_ followed by base64")
		}
		webhook, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, err
		}
		s = append(s, webhook)
	}
	return s, nil
}

// signer signs with every secret of it, the current one first.
type signer []*standardwebhooks.Webhook

func (s signer) Sign(id string, at time.Time, body []byte) (string, error) {
	signatures := make([]string, len(s))
	for i, webhook := range s {
		signature, err := webhook.Sign(id, at, body)
		if err != nil {
			return "", err
		}
		signatures[i] = signature
	}
	return strings.Join(signatures, " "), nil
}
