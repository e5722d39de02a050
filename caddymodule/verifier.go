package caddymodule

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

func init() {
	caddy.RegisterModule(new(HMAC))
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

	// sha256 or sha512. Default: sha256.
	Algorithm string `json:"algorithm,omitempty"`

	// How the signature is written: hex or base64. Default: hex.
	Encoding string `json:"encoding,omitempty"`

	// What stands before the signature in its header, as in sha256=. Default: nothing.
	Prefix string `json:"prefix,omitempty"`

	// What is signed, from {body}, {timestamp}, {task_id} and {header.<name>}. Default: {body}, or {timestamp}.{body}
	// with a timestamp header.
	Signed string `json:"signed,omitempty"`

	// The header with the time of the signature in Unix seconds. Default: none; then nothing ends a replay.
	TimestampHeader string `json:"timestamp_header,omitempty"`

	// How far that time may be from now. Default: 30m, since a retry after 15 minutes may carry its first timestamp.
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
	return verifier.HMAC(verifier.HMACOptions{
		Secrets:         s,
		Header:          v.Header,
		Algorithm:       v.Algorithm,
		Encoding:        v.Encoding,
		Prefix:          v.Prefix,
		Signed:          v.Signed,
		TimestampHeader: v.TimestampHeader,
		Tolerance:       time.Duration(v.Tolerance),
	})
}

func (v *HMAC) literalSecret() bool { return literal(v.Secret) }

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

// Token verifies a secret that the sender repeats, because the operator put it into the callback URL or a header.
type Token struct {
	relay.Verifier `json:"-"`

	// The secret, or several while one replaces another. Placeholders: {env.*} and {file.*}.
	Secret Strings `json:"secret,omitempty"`

	// The query parameter that holds it. Filter it out of the access log.
	Query string `json:"query,omitempty"`

	// The header that holds it. Exactly one of query and header is required.
	Header string `json:"header,omitempty"`
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
	return verifier.Token(verifier.TokenOptions{Secrets: s, Query: v.Query, Header: v.Header})
}

func (v *Token) literalSecret() bool { return literal(v.Secret) }

// Interface guards
var (
	_ caddy.Provisioner = (*HMAC)(nil)
	_ caddy.Provisioner = (*StandardWebhooks)(nil)
	_ caddy.Provisioner = (*KieSignature)(nil)
	_ caddy.Provisioner = (*Token)(nil)
	_ relay.Verifier    = (*HMAC)(nil)
	_ relay.Verifier    = (*StandardWebhooks)(nil)
	_ relay.Verifier    = (*KieSignature)(nil)
	_ relay.Verifier    = (*Token)(nil)
)
