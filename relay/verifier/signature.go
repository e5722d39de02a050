package verifier

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// signature is where a request has its signature, and what that signature covers.
type signature struct {
	header          string
	prefix          string
	schemes         []string // with any, the header is a list of key=value, and these are the keys of signatures
	timestampKey    string   // the key of the time in that list
	timestampHeader string
	tolerance       time.Duration
	decode          func(string) ([]byte, error)
	signed          template
}

// complete checks the options that are set already, and parses the others.
func (s *signature) complete(encoding, signed string, tolerance time.Duration) error {
	if s.header == "" {
		return errors.New("header: expected the name of the header with the signature")
	}
	if err := checkHeaderName("header", s.header); err != nil {
		return err
	}
	if s.timestampHeader != "" {
		if err := checkHeaderName("timestamp_header", s.timestampHeader); err != nil {
			return err
		}
	}
	if err := s.checkList(); err != nil {
		return err
	}
	var err error
	if s.decode, err = decoder(encoding); err != nil {
		return err
	}
	if err := checkTolerance(&s.tolerance, tolerance); err != nil {
		return err
	}
	if s.signed, err = parseTemplate(signed); err != nil {
		return err
	}
	return s.complement()
}

func (s *signature) checkList() error {
	switch {
	case len(s.schemes) == 0 && s.timestampKey != "":
		return errors.New("timestamp: expected scheme <key>... with it, since it names an entry of that list; a time in a header of its own is a timestamp_header")
	case len(s.schemes) > 0 && s.prefix != "":
		return errors.New("prefix: expected either prefix or scheme, since a scheme is what precedes a signature in a list")
	case s.timestampKey != "" && s.timestampHeader != "":
		return errors.New("timestamp: expected either timestamp or timestamp_header")
	}
	for _, key := range append([]string{s.timestampKey}, s.schemes...) {
		if strings.ContainsAny(key, "=, \t") {
			return fmt.Errorf("scheme and timestamp: expected a key of the header's list, without commas, spaces and equals signs, got %q", key)
		}
	}
	switch {
	case slices.Contains(s.schemes, ""):
		return errors.New("scheme: a key must not be empty")
	case slices.Contains(s.schemes, s.timestampKey):
		return fmt.Errorf("timestamp: %s is a scheme already", s.timestampKey)
	}
	return nil
}

// complement sets what is signed where nothing is configured, and refuses a signature that would prove nothing.
func (s *signature) complement() error {
	timed := s.timestampKey != "" || s.timestampHeader != ""
	if s.signed == nil {
		if timed {
			s.signed = template{{kind: timestamp}, {literal, "."}}
		}
		s.signed = append(s.signed, piece{kind: body})
	}
	covered := s.signed.has(timestamp) || slices.ContainsFunc(s.signed.headers(), func(name string) bool {
		return strings.EqualFold(name, s.timestampHeader)
	})
	switch {
	case !timed && s.signed.has(timestamp):
		return errors.New("signed: {timestamp} needs a timestamp_header, or the timestamp of a list")
	case timed && !covered:
		return errors.New("signed: expected the timestamp in it, by {timestamp}, since anyone could renew one that is not signed")
	case !slices.ContainsFunc(s.signed, func(p piece) bool { return p.kind != literal }):
		return errors.New("signed: without a placeholder every callback has the same signature")
	}
	return nil
}

// read returns the signatures of a callback, at least one, and what they should cover. It refuses a stale callback.
func (s *signature) read(c *relay.Callback) (signatures [][]byte, message []byte, err error) {
	value, err := one(c.Header, s.header)
	if err != nil {
		return nil, nil, err
	}
	at, err := s.time(c, value)
	if err != nil {
		return nil, nil, err
	}
	if signatures, err = s.decoded(value); err != nil {
		return nil, nil, err
	}
	if message, err = s.signed.fill(c, at); err != nil {
		return nil, nil, err
	}
	if s.signed.has(body) || s.signed.has(bodySum) {
		c.BodyCovered = true
	} else {
		sum := sha256.Sum256(message)
		c.Proof = hex.EncodeToString(sum[:16])
	}
	return signatures, message, nil
}

// time returns the checked timestamp of a callback, if the sender sends one.
func (s *signature) time(c *relay.Callback, list string) (at string, err error) {
	switch {
	case s.timestampKey != "":
		values := listed(list, s.timestampKey)
		if len(values) != 1 {
			return "", fmt.Errorf("the header %s has %d entries %s=, not one", s.header, len(values), s.timestampKey)
		}
		at = values[0]
	case s.timestampHeader != "":
		if at, err = one(c.Header, s.timestampHeader); err != nil {
			return "", err
		}
	default:
		return "", nil
	}
	return at, fresh(at, c.Now, s.tolerance)
}

func (s *signature) decoded(value string) (signatures [][]byte, err error) {
	var encoded []string
	if len(s.schemes) == 0 {
		text, ok := strings.CutPrefix(value, s.prefix)
		if !ok {
			return nil, errors.New("the signature has not the configured prefix")
		}
		encoded = []string{text}
	}
	for _, scheme := range s.schemes {
		encoded = append(encoded, listed(value, scheme)...)
	}
	if len(encoded) == 0 {
		return nil, fmt.Errorf("the header %s has no entry %s=", s.header, strings.Join(s.schemes, "= or "))
	}
	for _, text := range encoded {
		if signature, err := s.decode(text); err == nil {
			signatures = append(signatures, signature)
		}
	}
	if len(signatures) == 0 {
		return nil, errors.New("the signature has not the configured encoding")
	}
	return signatures, nil
}

// NeedsBody reports whether the signature covers the body, or what is read from it.
func (s *signature) NeedsBody() bool {
	return s.signed.has(body) || s.signed.has(bodySum) || s.signed.has(taskID)
}

// Headers are those that the signature is read from, and that it covers.
func (s *signature) Headers() []string {
	names := []string{s.header}
	if s.timestampHeader != "" {
		names = append(names, s.timestampHeader)
	}
	return append(names, s.signed.headers()...)
}

// decoder returns how signatures are read from text.
func decoder(encoding string) (func(string) ([]byte, error), error) {
	switch encoding {
	case "", "hex":
		return hex.DecodeString, nil
	case "base64":
		return base64.StdEncoding.Strict().DecodeString, nil
	case "base64url": // RFC 7515 leaves the padding out, other senders write it
		return func(s string) ([]byte, error) {
			return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
		}, nil
	}
	return nil, fmt.Errorf("encoding: expected hex, base64 or base64url, got %q", encoding)
}
