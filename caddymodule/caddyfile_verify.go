package caddymodule

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	hmac [<secret>...] {
//	    secret <secret>...
//	    header <name>
//	    algorithm sha256|sha512|sha1
//	    encoding hex|base64|base64url
//	    prefix <text>
//	    scheme <key>...
//	    timestamp <key>
//	    signed <template>
//	    timestamp_header <name>
//	    tolerance <duration>
//	}
func (v *HMAC) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the verifier's name
	v.Secret = d.RemainingArgs()
	if err := unmarshalFields(d, map[string]any{
		"secret <secret>...":            &v.Secret,
		"header <name>":                 &v.Header,
		"algorithm sha256|sha512|sha1":  &v.Algorithm,
		"encoding hex|base64|base64url": &v.Encoding,
		"prefix <text>":                 &v.Prefix,
		"scheme <key>...":               &v.Scheme,
		"timestamp <key>":               &v.Timestamp,
		"signed <template>":             &v.Signed,
		"timestamp_header <name>":       &v.TimestampHeader,
		"tolerance <duration>":          &v.Tolerance,
	}); err != nil {
		return err
	}
	v.Signed = unexpanded(v.Signed)
	_, err := v.build(checkSecrets)
	return verifierError(d, err)
}

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	ed25519 {
//	    key <hex|base64>...
//	    jwks <https URL>
//	    header <name>
//	    encoding hex|base64|base64url
//	    signed <template>
//	    timestamp_header <name>
//	    tolerance <duration>
//	}
//
// Exactly one of key and jwks is required.
func (v *ED25519) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the verifier's name
	if _, err := arguments(d, "ed25519 { ... }", 0, 0); err != nil {
		return err
	}
	if err := unmarshalFields(d, map[string]any{
		"key <hex|base64>...":           &v.Key,
		"jwks <https URL>":              &v.JWKS,
		"header <name>":                 &v.Header,
		"encoding hex|base64|base64url": &v.Encoding,
		"signed <template>":             &v.Signed,
		"timestamp_header <name>":       &v.TimestampHeader,
		"tolerance <duration>":          &v.Tolerance,
	}); err != nil {
		return err
	}
	v.Signed = unexpanded(v.Signed)
	return verifierError(d, v.check())
}

// check builds the verifier with stand-ins for what is not known yet.
func (v *ED25519) check() error {
	keys, err := checkTexts(v.Key, standInKey)
	if err != nil {
		return err
	}
	jwks, err := checkTexts([]string{v.JWKS}, standInURL)
	if err != nil {
		return err
	}
	_, err = v.build(keys, jwks[0], nil)
	return err
}

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	standard_webhooks <secret>... {
//	    secret <secret>...
//	    tolerance <duration>
//	}
func (v *StandardWebhooks) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the verifier's name
	v.Secret = d.RemainingArgs()
	if err := unmarshalFields(d, map[string]any{"secret <secret>...": &v.Secret, "tolerance <duration>": &v.Tolerance}); err != nil {
		return err
	}
	_, err := v.build(checkSecrets)
	return verifierError(d, err)
}

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	kie <secret>... {
//	    secret <secret>...
//	    tolerance <duration>
//	}
func (v *KieSignature) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the verifier's name
	v.Secret = d.RemainingArgs()
	if err := unmarshalFields(d, map[string]any{"secret <secret>...": &v.Secret, "tolerance <duration>": &v.Tolerance}); err != nil {
		return err
	}
	_, err := v.build(checkSecrets)
	return verifierError(d, err)
}

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	token <secret>... {
//	    secret <secret>...
//	    query <name> | header <name> | body <gjson path>
//	}
func (v *Token) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the verifier's name
	v.Secret = d.RemainingArgs()
	if err := unmarshalFields(d, map[string]any{
		"secret <secret>...": &v.Secret,
		"query <name>":       &v.Query,
		"header <name>":      &v.Header,
		"body <gjson path>":  &v.Body,
	}); err != nil {
		return err
	}
	_, err := v.build(checkSecrets)
	return verifierError(d, err)
}

// unmarshalFields reads the block of a verifier: subdirectives by their usage, each with the text, duration or list to set.
// A list grows where its subdirective is repeated.
func unmarshalFields(d *caddyfile.Dispenser, fields map[string]any) error {
	for d.NextBlock(0) {
		name := d.Val()
		var usage string
		var known []string
		for u := range fields {
			first, _, _ := strings.Cut(u, " ")
			known = append(known, first)
			if first == name {
				usage = u
			}
		}
		var err error
		switch to := fields[usage].(type) {
		case *string:
			err = setText(d, usage, to, nil)
		case *Duration:
			err = setDuration(d, name, to)
		case *Strings:
			var more []string
			more, err = arguments(d, usage, 1, -1)
			*to = append(*to, more...)
		default:
			slices.Sort(known)
			err = errUnknown(d, strings.Join(known, ", "))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unexpanded returns a template as it was written: in a Caddyfile {header.name} is short for a placeholder of the request,
// and has been spelt out by now.
func unexpanded(template string) string {
	return strings.ReplaceAll(template, "{http.request.header.", "{header.")
}

// verifierError places what is wrong with a verifier as a whole where the verifier begins.
func verifierError(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	d.Reset()
	d.Next()
	return d.Errf("verify %s: %w", d.Val(), err)
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*HMAC)(nil)
	_ caddyfile.Unmarshaler = (*ED25519)(nil)
	_ caddyfile.Unmarshaler = (*StandardWebhooks)(nil)
	_ caddyfile.Unmarshaler = (*KieSignature)(nil)
	_ caddyfile.Unmarshaler = (*Token)(nil)
)
