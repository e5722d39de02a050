package verifier

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Ed25519Tolerance is how far a timestamp may be from now, as fal.ai asks its receivers for.
const Ed25519Tolerance = 5 * time.Minute

// Ed25519Options describe how a sender signs.
type Ed25519Options struct {
	// Keys are public keys of 32 bytes in hex or base64; any of them may have signed.
	Keys []string
	// JWKS is where the sender publishes its keys. Either Keys or JWKS is required.
	JWKS *JWKSOptions
	// Header is the name of the header with the signature. Required.
	Header string
	// Encoding of the signature: hex; base64, with padding; base64url, with padding or without. Default: hex.
	Encoding string
	// Signed is the text that is signed, with the placeholders {body}, {body_sha256} (in hex), {timestamp}, {task_id} and
	// {header.<name>}; \n is a line break and \\ a backslash. Default: {body}, or {timestamp}.{body} where
	// TimestampHeader is set.
	Signed string
	// TimestampHeader is the name of the header with the time of the signature, in Unix seconds. Signed must cover it.
	// Default: none; then a callback can be replayed at any time.
	TimestampHeader string
	// Tolerance is how far that time may be from now, before or after. Default: Ed25519Tolerance.
	Tolerance time.Duration
}

// Ed25519 returns a verifier of an Ed25519 signature in a header. It must be closed.
func Ed25519(o Ed25519Options) (*Ed25519Verifier, error) {
	if (len(o.Keys) == 0) == (o.JWKS == nil) {
		return nil, errors.New("expected either key or jwks, which is what signatures are verified with")
	}
	v := &Ed25519Verifier{signature: signature{header: o.Header, timestampHeader: o.TimestampHeader, tolerance: o.Tolerance}}
	for _, text := range o.Keys {
		key, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		v.keys = append(v.keys, key)
	}
	if err := v.complete(o.Encoding, o.Signed, Ed25519Tolerance); err != nil {
		return nil, err
	}
	if o.JWKS != nil {
		var err error
		if v.jwks, err = newKeySet(*o.JWKS); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Ed25519Verifier verifies Ed25519 signatures.
type Ed25519Verifier struct {
	signature
	keys []ed25519.PublicKey
	jwks *keySet // nil where keys are configured
}

// Verify returns nil if one of the keys has signed the callback. The error wraps relay.ErrUndecided if none has, but the
// sender's keys could not be fetched.
func (v *Ed25519Verifier) Verify(c *relay.Callback) error {
	signatures, message, err := v.read(c)
	if err != nil {
		return err
	}
	if v.jwks == nil {
		if !anyKey(v.keys, message, signatures) {
			return errMismatch
		}
		return nil
	}
	for _, unknown := range []bool{false, true} {
		var keys []ed25519.PublicKey
		keys, err = v.jwks.get(c.Now, c.Deadline, unknown)
		if anyKey(keys, message, signatures) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", relay.ErrUndecided, err)
	}
	return errMismatch
}

// Close ends a fetch that is under way, and waits for it. No other begins.
func (v *Ed25519Verifier) Close() error {
	if v.jwks != nil {
		v.jwks.close()
	}
	return nil
}

func anyKey(keys []ed25519.PublicKey, message []byte, signatures [][]byte) bool {
	return slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool {
		return slices.ContainsFunc(signatures, func(signature []byte) bool { return ed25519.Verify(key, message, signature) })
	})
}

// parseKey reads a public key, in hex or in any alphabet of base64. Its error does not show the text, which may be a
// private key by mistake.
func parseKey(s string) (ed25519.PublicKey, error) {
	key, err := hex.DecodeString(s)
	if err != nil {
		s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		key, err = base64.RawStdEncoding.Strict().DecodeString(s)
	}
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("key: expected an Ed25519 public key of %d bytes in hex or base64", ed25519.PublicKeySize)
	}
	return key, nil
}
