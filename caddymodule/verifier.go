package caddymodule

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

func init() {
	caddy.RegisterModule(new(HMAC))
	caddy.RegisterModule(new(ED25519))
	caddy.RegisterModule(new(StandardWebhooks))
	caddy.RegisterModule(new(KieSignature))
	caddy.RegisterModule(new(Token))
}

// HMAC verifies an HMAC that the sender puts into a header.
type HMAC struct {
	relay.Verifier `json:"-"`

	// The secret shared with the sender, or several while one replaces another. Placeholders: {env.*} and {file.*}.
	Secret Strings `json:"secret,omitempty"`

	// The header with the signature. Required.
	Header string `json:"header,omitempty"`

	// sha256, sha512 or sha1. Default: sha256.
	Algorithm string `json:"algorithm,omitempty"`

	// How the signature is written: hex; base64, with padding; base64url, with padding or without. Default: hex.
	Encoding string `json:"encoding,omitempty"`

	// What precedes the signature in its header, as in sha256=. Default: nothing.
	Prefix string `json:"prefix,omitempty"`

	// Makes the header a list of key=value, as in `t=1700000000,v1=abc,v1=def`: any value under one of these keys may be
	// the signature. Default: none, the whole header is one.
	Scheme Strings `json:"scheme,omitempty"`

	// The key of the time in that list, in Unix seconds. Default: none.
	Timestamp string `json:"timestamp,omitempty"`

	// The signed text, from `{body}`, `{body_sha256}` (in hex), `{timestamp}`, `{task_id}`, `{header.<name>}` and other
	// text, where `\n` is a line break and `\\` a backslash. Default: `{body}`, or `{timestamp}.{body}` with a timestamp.
	Signed string `json:"signed,omitempty"`

	// The header with the time of the signature, in Unix seconds. Default: none; with neither this nor timestamp, nothing
	// ends a replay but the source's dedupe window.
	TimestampHeader string `json:"timestamp_header,omitempty"`

	// How far that time may be from now, before or after. Default: 30m, since a retry after 15 minutes may carry its first
	// timestamp.
	Tolerance Duration `json:"tolerance,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*HMAC) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.verifiers.hmac",
		New: func() caddy.Module { return new(HMAC) },
	}
}

// Provision makes the verifier.
func (v *HMAC) Provision(caddy.Context) (err error) {
	v.Verifier, err = v.build(resolveSecrets)
	return err
}

func (v *HMAC) build(secrets func([]string) ([]string, error)) (relay.Verifier, error) {
	s, err := secrets(v.Secret)
	if err != nil {
		return nil, err
	}
	for field, texts := range map[string][]string{"prefix": {v.Prefix}, "scheme": v.Scheme, "timestamp": {v.Timestamp}} {
		if err := checkWritten(texts...); err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
	}
	return verifier.HMAC(verifier.HMACOptions{
		Secrets:         s,
		Header:          v.Header,
		Algorithm:       v.Algorithm,
		Encoding:        v.Encoding,
		Prefix:          v.Prefix,
		Scheme:          v.Scheme,
		Timestamp:       v.Timestamp,
		Signed:          v.Signed,
		TimestampHeader: v.TimestampHeader,
		Tolerance:       time.Duration(v.Tolerance),
	})
}

func (v *HMAC) literalSecret() bool { return literal(v.Secret) }

// ED25519 verifies an Ed25519 signature that the sender puts into a header, with keys that are configured or that the
// sender publishes.
type ED25519 struct {
	relay.Verifier `json:"-"`

	// The sender's public key, 32 bytes in hex or base64, or several while one replaces another. Placeholders: {env.*}
	// and {file.*}.
	Key Strings `json:"key,omitempty"`

	// The https URL of the JSON Web Key Set with the sender's keys. It is fetched when a callback needs it, from a public
	// address only, and again after 24h, and for an unknown key, then at most once a minute; the last keys stay through
	// an outage. Placeholders: {env.*} and {file.*}. Exactly one of key and jwks is required.
	JWKS string `json:"jwks,omitempty"`

	// The header with the signature. Required.
	Header string `json:"header,omitempty"`

	// How the signature is written: hex; base64, with padding; base64url, with padding or without. Default: hex.
	Encoding string `json:"encoding,omitempty"`

	// The signed text, from `{body}`, `{body_sha256}` (in hex), `{timestamp}`, `{task_id}`, `{header.<name>}` and other
	// text, where `\n` is a line break and `\\` a backslash. Default: `{body}`, or `{timestamp}.{body}` with a timestamp
	// header.
	Signed string `json:"signed,omitempty"`

	// The header with the time of the signature, in Unix seconds. Default: none; then nothing ends a replay but the
	// source's dedupe window.
	TimestampHeader string `json:"timestamp_header,omitempty"`

	// How far that time may be from now, before or after. Default: 5m.
	Tolerance Duration `json:"tolerance,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*ED25519) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.verifiers.ed25519",
		New: func() caddy.Module { return new(ED25519) },
	}
}

// Provision makes the verifier. It fetches nothing.
func (v *ED25519) Provision(ctx caddy.Context) error {
	keys, err := resolveSecrets(v.Key)
	if err != nil {
		return err
	}
	jwks, err := resolve(v.JWKS)
	if err != nil {
		return err
	}
	logger := ctx.Slogger()
	if jwks != "" {
		// A callback waits for the keys, and must not wait for who reads the log (7).
		app, err := relayApp(ctx)
		if err != nil {
			return err
		}
		logger = app.pooled.Logger(logger)
	}
	v.Verifier, err = v.build(keys, jwks, logger)
	return err
}

// Cleanup ends a fetch of keys that is under way.
func (v *ED25519) Cleanup() error {
	if c, ok := v.Verifier.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (v *ED25519) build(keys []string, jwks string, logger *slog.Logger) (relay.Verifier, error) {
	o := verifier.Ed25519Options{
		Keys:            keys,
		Header:          v.Header,
		Encoding:        v.Encoding,
		Signed:          v.Signed,
		TimestampHeader: v.TimestampHeader,
		Tolerance:       time.Duration(v.Tolerance),
	}
	if jwks != "" {
		o.JWKS = &verifier.JWKSOptions{URL: jwks, Logger: logger}
	}
	built, err := verifier.Ed25519(o)
	if err != nil {
		return nil, err // not the nil of another type
	}
	return built, nil
}

// StandardWebhooks verifies signatures of the Standard Webhooks specification.
type StandardWebhooks struct {
	relay.Verifier `json:"-"`

	// The secret (whsec_ and base64), or several while one replaces another. Placeholders: {env.*} and {file.*}.
	Secret Strings `json:"secret,omitempty"`

	// How far the timestamp may be from now. Default: 5m.
	Tolerance Duration `json:"tolerance,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*StandardWebhooks) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.verifiers.standard_webhooks",
		New: func() caddy.Module { return new(StandardWebhooks) },
	}
}

// Provision makes the verifier.
func (v *StandardWebhooks) Provision(caddy.Context) (err error) {
	v.Verifier, err = v.build(resolveSecrets)
	return err
}

func (v *StandardWebhooks) build(secrets func([]string) ([]string, error)) (relay.Verifier, error) {
	s, err := secrets(v.Secret)
	if err != nil {
		return nil, err
	}
	return verifier.StandardWebhooks(s, time.Duration(v.Tolerance))
}

func (v *StandardWebhooks) literalSecret() bool { return literal(v.Secret) }

// KieSignature verifies kie.ai's signature, which covers the task id and the time, but not the body.
type KieSignature struct {
	relay.Verifier `json:"-"`

	// The key, or several while one replaces another. Placeholders: {env.*} and {file.*}.
	Secret Strings `json:"secret,omitempty"`

	// How far the timestamp may be from now. Default: 30m, since a retry after 15 minutes may carry its first timestamp.
	Tolerance Duration `json:"tolerance,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*KieSignature) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.verifiers.kie",
		New: func() caddy.Module { return new(KieSignature) },
	}
}

// Provision makes the verifier.
func (v *KieSignature) Provision(caddy.Context) (err error) {
	v.Verifier, err = v.build(resolveSecrets)
	return err
}

func (v *KieSignature) build(secrets func([]string) ([]string, error)) (relay.Verifier, error) {
	s, err := secrets(v.Secret)
	if err != nil {
		return nil, err
	}
	return verifier.Kie(s, time.Duration(v.Tolerance))
}

func (v *KieSignature) literalSecret() bool { return literal(v.Secret) }

// Token verifies a secret that the sender repeats in the callback URL, in a header or in the body, since it was told to.
type Token struct {
	relay.Verifier `json:"-"`

	// The secret, or several while one replaces another. Placeholders: {env.*} and {file.*}.
	Secret Strings `json:"secret,omitempty"`

	// The query parameter that holds it. Filter it out of the access log. Destinations of a provider that repeats the
	// callback URL in its callbacks learn it.
	Query string `json:"query,omitempty"`

	// The header that holds it. Filter it out of the access log, unless it is one that Caddy redacts.
	Header string `json:"header,omitempty"`

	// The gjson path of the string in the body that holds it. Destinations learn it. Exactly one of query, header and body
	// is required.
	Body string `json:"body,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Token) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay.verifiers.token",
		New: func() caddy.Module { return new(Token) },
	}
}

// Provision makes the verifier.
func (v *Token) Provision(caddy.Context) (err error) {
	v.Verifier, err = v.build(resolveSecrets)
	return err
}

func (v *Token) build(secrets func([]string) ([]string, error)) (relay.Verifier, error) {
	s, err := secrets(v.Secret)
	if err != nil {
		return nil, err
	}
	if err := checkWritten(v.Query); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return verifier.Token(verifier.TokenOptions{Secrets: s, Query: v.Query, Header: v.Header, Body: v.Body})
}

func (v *Token) literalSecret() bool { return literal(v.Secret) }

// warn reports who else learns the token of a source. kie is set if its callbacks are those of kie.
func (v *Token) warn(log *slog.Logger, src *relay.Source, kie bool) {
	signed := slices.ContainsFunc(src.Verifiers, func(other relay.Verifier) bool {
		_, ok := other.(*KieSignature)
		return ok
	})
	if v.Query != "" && kie && !signed {
		log.Warn("callbacks of kie repeat their callback URL in param and promptJson, so that every destination learns the token in its query and could call in kie's place; use verify kie, with the key that kie.ai signs with",
			"query", v.Query)
	}
	if v.Header != "" && !redacted(v.Header) {
		log.Warn("an access log shows the token in its header to all who read it; where the site has a log, hide it with this line in format filter: request>headers>"+http.CanonicalHeaderKey(v.Header)+" delete",
			"header", v.Header)
	}
}

// redacted reports whether Caddy keeps the value of a header out of its access logs, unless it is told otherwise.
func redacted(header string) bool {
	switch http.CanonicalHeaderKey(header) {
	case "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie":
		return true
	}
	return false
}

// Interface guards
var (
	_ caddy.Provisioner  = (*HMAC)(nil)
	_ caddy.Provisioner  = (*ED25519)(nil)
	_ caddy.CleanerUpper = (*ED25519)(nil)
	_ caddy.Provisioner  = (*StandardWebhooks)(nil)
	_ caddy.Provisioner  = (*KieSignature)(nil)
	_ caddy.Provisioner  = (*Token)(nil)
	_ relay.Verifier     = (*HMAC)(nil)
	_ relay.Verifier     = (*ED25519)(nil)
	_ relay.Verifier     = (*StandardWebhooks)(nil)
	_ relay.Verifier     = (*KieSignature)(nil)
	_ relay.Verifier     = (*Token)(nil)
)
