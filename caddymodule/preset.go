package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() {
	for name := range presets {
		if name != kieName { // whose module is a provider itself
			caddy.RegisterModule(&Preset{name: name})
		}
	}
}

// Preset is a sender whose settings are known: where its callbacks have what is read from them, how it proves who it is,
// what makes two of its callbacks the same, and how long it waits. The handler replaces it by those settings, except for
// those that it has itself; its verifier joins the handler's, since all must pass. `caddy adapt` shows them.
type Preset struct {
	// The secret shared with the sender, or several while one replaces another. Another verifier is added with it. Where
	// the sender signs with a key of its own, there is no secret. Placeholders: {env.*} and {file.*}.
	Secret Strings `json:"secret,omitempty"`

	name string
}

// CaddyModule returns the Caddy module information.
func (p *Preset) CaddyModule() caddy.ModuleInfo {
	name := p.name
	return caddy.ModuleInfo{
		ID:  caddy.ModuleID("relay.providers." + name),
		New: func() caddy.Module { return &Preset{name: name} },
	}
}

// UnmarshalCaddyfile sets up the preset from Caddyfile tokens. Syntax:
//
//	<preset> {
//	    secret <secret>...
//	}
func (p *Preset) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the preset's name
	if _, err := arguments(d, "provider "+p.name+" { secret <secret>... }", 0, 0); err != nil {
		return err
	}
	if err := unmarshalFields(d, map[string]any{"secret <secret>...": &p.Secret}); err != nil {
		return err
	}
	if len(p.Secret) == 0 {
		return nil
	}
	// What is wrong with a secret is found here, where the line is known.
	if err := p.apply(new(Handler)); err != nil {
		d.Reset()
		d.Next()
		return d.Errf("provider %w", err)
	}
	return nil
}

// expandPreset replaces a provider that is a preset by what it stands for. What the handler has set stays.
func (h *Handler) expandPreset() error {
	name := h.providerName()
	if presets[name].settings == "" {
		return nil // a provider that knows its own fields
	}
	provider := struct {
		Name string `json:"name"`
		Preset
	}{Preset: Preset{name: name}}
	if err := caddy.StrictUnmarshalJSON(h.ProviderRaw, &provider); err != nil {
		return fmt.Errorf("provider %s: %w", name, err)
	}
	h.ProviderRaw = nil
	if err := provider.apply(h); err != nil {
		return fmt.Errorf("provider %w", err)
	}
	return nil
}

// providerName returns the name of the provider's module.
func (h *Handler) providerName() string {
	var module struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(h.ProviderRaw, &module) // what cannot be read is refused when it is loaded
	return cmp.Or(module.Name, "suno")
}

// apply sets what the preset stands for and the handler, which has no provider, has not set. The preset's verifier joins
// those that there are.
func (p *Preset) apply(h *Handler) error {
	known := presets[p.name]
	if len(p.Secret) > 0 && known.verify == "" {
		return fmt.Errorf("%s: this sender signs with a key that it publishes; expected no secret", p.name)
	}
	var set map[string]json.RawMessage
	if err := json.Unmarshal(caddyconfig.JSON(h, nil), &set); err != nil {
		return err
	}
	if err := p.read(h, known.settings, nil, set); err != nil {
		return err
	}
	if len(p.Secret) == 0 {
		return nil
	}
	return p.read(h, "verify "+known.verify, p.Secret, nil)
}

// read reads subdirectives into a handler, except for those that are set already and may not be repeated. The secrets are arguments of the
// verifier that the lines begin with.
func (p *Preset) read(h *Handler, lines string, secrets []string, set map[string]json.RawMessage) error {
	tokens, err := caddyfile.Tokenize([]byte("preset {\n"+lines+"\n}"), p.name)
	if err != nil {
		return err
	}
	const verifier = 3 // after preset, { and verify
	for _, secret := range slices.Backward(secrets) {
		token := tokens[verifier]
		token.Text = secret
		tokens = slices.Insert(tokens, verifier+1, token)
	}
	d := caddyfile.NewDispenser(tokens)
	d.Next()
	for d.NextBlock(0) {
		if _, ok := set[d.Val()]; ok && d.Val() != "verify" {
			d.NextSegment()
		} else if err := h.subdirective(d); err != nil {
			return fmt.Errorf("%s: %w", p.name, cmp.Or(errors.Unwrap(err), err)) // without the line, which is not the operator's
		}
	}
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Preset)(nil)
