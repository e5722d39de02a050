package verifier

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// DefaultTolerance is how far a timestamp may be from now: the provider's last retry comes after 15 minutes and may
// carry the timestamp of its first try.
const DefaultTolerance = 30 * time.Minute

// HMACOptions say how a sender signs.
type HMACOptions struct {
	// Secrets are the keys as the sender has them, as text; any of them may have signed. At least one.
	Secrets []string
	// Header carries the signature. Required.
	Header string
	// Algorithm is sha256 or sha512. Default: sha256.
	Algorithm string
	// Encoding of the signature, hex or base64 with padding. Default: hex.
	Encoding string
	// Prefix stands before the signature in its header, like "sha256=". Default: none.
	Prefix string
	// Signed is what is signed, with the placeholders {body}, {timestamp} (the value of TimestampHeader), {task_id} and
	// {header.<name>}. Default: {body}, or {timestamp}.{body} where TimestampHeader is set.
	Signed string
	// TimestampHeader carries the time of the signature in Unix seconds. Where it is set, Signed must cover it.
	TimestampHeader string
	// Tolerance is how far that time may be from now, before or after. Default: DefaultTolerance.
	Tolerance time.Duration
}

// HMAC makes a verifier of an HMAC in a header.
func HMAC(o HMACOptions) (relay.Verifier, error) {
	if err := checkSecrets(o.Secrets); err != nil {
		return nil, err
	}
	if o.Header == "" {
		return nil, errors.New("header: the name of the signature's header is missing")
	}
	v := &hmacVerifier{o: o}
	var err error
	if v.newHash, err = algorithm(o.Algorithm); err != nil {
		return nil, err
	}
	if v.decode, err = encoding(o.Encoding); err != nil {
		return nil, err
	}
	if err := checkTolerance(&v.o.Tolerance, DefaultTolerance); err != nil {
		return nil, err
	}
	if v.signed, err = signedTemplate(o); err != nil {
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
	}
	return nil, fmt.Errorf("algorithm: %q is neither sha256 nor sha512", name)
}

func encoding(name string) (func(string) ([]byte, error), error) {
	switch name {
	case "", "hex":
		return hex.DecodeString, nil
	case "base64":
		return base64.StdEncoding.Strict().DecodeString, nil
	}
	return nil, fmt.Errorf("encoding: %q is neither hex nor base64", name)
}

func signedTemplate(o HMACOptions) (template, error) {
	signed := o.Signed
	switch {
	case signed != "":
	case o.TimestampHeader != "":
		signed = "{timestamp}.{body}"
	default:
		signed = "{body}"
	}
	t, err := parseTemplate(signed)
	switch {
	case err != nil:
		return nil, err
	case t.has(timestamp) && o.TimestampHeader == "":
		return nil, errors.New("signed: {timestamp} needs a timestamp_header")
	case !t.has(timestamp) && o.TimestampHeader != "":
		return nil, errors.New("timestamp_header: signed does not cover it with {timestamp}, so that anyone could renew it")
	case !t.has(body) && !t.has(taskID) && !t.has(timestamp) && !t.has(header):
		return nil, errors.New("signed: without a placeholder every callback has the same signature")
	}
	return t, nil
}

type hmacVerifier struct {
	o       HMACOptions
	newHash func() hash.Hash
	decode  func(string) ([]byte, error)
	signed  template
}

func (v *hmacVerifier) Verify(c *relay.Callback) error {
	value, err := one(c.Header, v.o.Header)
	if err != nil {
		return err
	}
	var at string
	if v.o.TimestampHeader != "" {
		if at, err = one(c.Header, v.o.TimestampHeader); err != nil {
			return err
		}
		if err := fresh(at, c.Now, v.o.Tolerance); err != nil {
			return err
		}
	}
	encoded, ok := strings.CutPrefix(value, v.o.Prefix)
	if !ok {
		return errors.New("the signature has not the configured prefix")
	}
	mac, err := v.decode(encoded)
	if err != nil {
		return errors.New("the signature has not the configured encoding")
	}
	message, err := v.signed.fill(c, at)
	if err != nil {
		return err
	}
	if !anyMAC(v.newHash, v.o.Secrets, message, mac) {
		return errMismatch
	}
	return nil
}

func (v *hmacVerifier) NeedsBody() bool { return v.signed.has(body) || v.signed.has(taskID) }

func (v *hmacVerifier) Headers() []string {
	names := []string{v.o.Header}
	if v.o.TimestampHeader != "" {
		names = append(names, v.o.TimestampHeader)
	}
	for _, p := range v.signed {
		if p.kind == header {
			names = append(names, p.text)
		}
	}
	return names
}
