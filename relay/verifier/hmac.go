package verifier

import (
	"crypto/sha1" // an HMAC of SHA-1 is sound, and some senders have no other
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// DefaultTolerance is how far a timestamp may be from now: the provider's last retry comes after 15 minutes and may
// carry the timestamp of its first try.
const DefaultTolerance = 30 * time.Minute

// HMACOptions describe how a sender signs.
type HMACOptions struct {
	// Secrets are the keys as the sender has them, as text; any of them may have signed. At least one.
	Secrets []string
	// Header is the name of the header with the signature. Required.
	Header string
	// Algorithm is sha256, sha512 or sha1. Default: sha256.
	Algorithm string
	// Encoding of the signature: hex; base64, with padding; base64url, with padding or without. Default: hex.
	Encoding string
	// Prefix precedes the signature in its header, like "sha256=". Default: none.
	Prefix string
	// Scheme makes the header a list of key=value with commas between, as in "t=1700000000,v1=abc,v1=def". Any value
	// under one of these keys may be the signature. Default: none, the header's value is the signature.
	Scheme []string
	// Timestamp is the key of the time in that list, in Unix seconds. Signed must cover it. Default: none.
	Timestamp string
	// Signed is the text that is signed, with the placeholders {body}, {body_sha256} (in hex), {timestamp}, {task_id} and
	// {header.<name>}; \n is a line break and \\ a backslash. Default: {body}, or {timestamp}.{body} where Timestamp or
	// TimestampHeader is set.
	Signed string
	// TimestampHeader is the name of the header with the time of the signature, in Unix seconds. Signed must cover it.
	// Default: none. With neither this nor Timestamp, a callback can be replayed at any time.
	TimestampHeader string
	// Tolerance is how far that time may be from now, before or after. Default: DefaultTolerance.
	Tolerance time.Duration
}

// HMAC returns a verifier of an HMAC in a header.
func HMAC(o HMACOptions) (relay.Verifier, error) {
	if err := checkSecrets(o.Secrets); err != nil {
		return nil, err
	}
	v := &hmacVerifier{secrets: o.Secrets, signature: signature{
		header:          o.Header,
		prefix:          o.Prefix,
		schemes:         o.Scheme,
		timestampKey:    o.Timestamp,
		timestampHeader: o.TimestampHeader,
		tolerance:       o.Tolerance,
	}}
	var err error
	if v.newHash, err = algorithm(o.Algorithm); err != nil {
		return nil, err
	}
	if err := v.complete(o.Encoding, o.Signed, DefaultTolerance); err != nil {
		return nil, err
	}
	return v, nil
}

func algorithm(name string) (func() hash.Hash, error) {
	switch name {
	case "", "sha256":
		return sha256.New, nil
	case "sha512":
		return sha512.New, nil
	case "sha1":
		return sha1.New, nil
	}
	return nil, fmt.Errorf("algorithm: expected sha256, sha512 or sha1, got %q", name)
}

type hmacVerifier struct {
	signature
	secrets []string
	newHash func() hash.Hash
}

func (v *hmacVerifier) Verify(c *relay.Callback) error {
	macs, message, err := v.read(c)
	if err != nil {
		return err
	}
	if !anyMAC(v.newHash, v.secrets, message, macs) {
		return errMismatch
	}
	return nil
}
