package caddymodule

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/callbackrelay/caddy-relay/relay"
)

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	hmac [<secret>...] {
//	    secret <secret>...
//	    header <name>
//	    algorithm sha256|sha512
//	    encoding hex|base64
//	    prefix <text>
//	    signed <template>
//	    timestamp_header <name>
//	    tolerance <duration>
//	}
func (v *HMAC) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	texts := map[string]*string{
		"header <name>": &v.Header, "algorithm sha256|sha512": &v.Algorithm, "encoding hex|base64": &v.Encoding,
		"prefix <text>": &v.Prefix, "signed <template>": &v.Signed, "timestamp_header <name>": &v.TimestampHeader,
	}
	if err := unmarshalVerifier(d, &v.Secret, texts, &v.Tolerance); err != nil {
		return err
	}
	// In a Caddyfile {header.name} is short for a placeholder of the request, and has been spelt out by now.
	v.Signed = strings.ReplaceAll(v.Signed, "{http.request.header.", "{header.")
	return checkVerifier(d, v)
}

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	standard_webhooks <secret>... {
//	    secret <secret>...
//	    tolerance <duration>
//	}
func (v *StandardWebhooks) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if err := unmarshalVerifier(d, &v.Secret, nil, &v.Tolerance); err != nil {
		return err
	}
	return checkVerifier(d, v)
}

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	kie <secret>... {
//	    secret <secret>...
//	    tolerance <duration>
//	}
func (v *KieSignature) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if err := unmarshalVerifier(d, &v.Secret, nil, &v.Tolerance); err != nil {
		return err
	}
	return checkVerifier(d, v)
}

// UnmarshalCaddyfile sets up the verifier from Caddyfile tokens. Syntax:
//
//	token <secret>... {
//	    secret <secret>...
//	    query <name> | header <name>
//	}
func (v *Token) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	texts := map[string]*string{"query <name>": &v.Query, "header <name>": &v.Header}
	if err := unmarshalVerifier(d, &v.Secret, texts, nil); err != nil {
		return err
	}
	return checkVerifier(d, v)
}

// unmarshalVerifier reads what verifiers have in common: secrets, some texts by their usage, and a tolerance if it is not nil.
func unmarshalVerifier(d *caddyfile.Dispenser, secrets *Strings, texts map[string]*string, tolerance *Duration) error {
	d.Next() // the verifier's name
	*secrets = d.RemainingArgs()
	for d.NextBlock(0) {
		name := d.Val()
		usage := ""
		for u := range texts {
			if first, _, _ := strings.Cut(u, " "); first == name {
				usage = u
			}
		}
		var err error
		switch {
		case name == "secret":
			var more []string
			more, err = arguments(d, "secret <secret>...", 1, -1)
			*secrets = append(*secrets, more...)
		case usage != "":
			err = setText(d, usage, texts[usage], nil)
		case name == "tolerance" && tolerance != nil:
			err = setDuration(d, name, tolerance)
		default:
			known := []string{"secret"}
			for u := range texts {
				known = append(known, strings.Fields(u)[0])
			}
			if tolerance != nil {
				known = append(known, "tolerance")
			}
			slices.Sort(known)
			err = errUnknown(d, strings.Join(known, ", "))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkVerifier checks what has been read, as a whole.
func checkVerifier(d *caddyfile.Dispenser, v interface {
	build(secrets func([]string) ([]string, error)) (relay.Verifier, error)
},
) error {
	_, err := v.build(checkSecrets)
	if err == nil {
		return nil
	}
	d.Reset()
	d.Next() // back to where the verifier begins
	return d.Errf("verify %s: %w", d.Val(), err)
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*HMAC)(nil)
	_ caddyfile.Unmarshaler = (*StandardWebhooks)(nil)
	_ caddyfile.Unmarshaler = (*KieSignature)(nil)
	_ caddyfile.Unmarshaler = (*Token)(nil)
)
