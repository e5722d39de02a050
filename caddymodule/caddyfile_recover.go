package caddymodule

import (
	"net/url"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// setRecover reads the subdirective:
//
//	recover [<details URL>] {
//	    base <URL>
//	    header <name> <value>
//	    after <duration>
//	    every <duration>
//	    for <duration>
//	}
func (h *Handler) setRecover(d *caddyfile.Dispenser) error {
	if h.Recover != nil {
		return errRepeated(d, "recover")
	}
	args, err := arguments(d, "recover [<details URL>] [{ ... }]", 0, 1)
	if err != nil {
		return err
	}
	h.Recover = new(Recover)
	if len(args) == 1 {
		if err := checkURL(args[0], nil); err != nil {
			return d.Errf("recover: %w", err)
		}
		h.Recover.Details = args[0]
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := h.Recover.subdirective(d); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recover) subdirective(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "base":
		return setText(d, "base <URL>", &r.Base, func(s string) error { return checkURL(s, checkBase) })
	case "header":
		return addHeader(d, &r.Header)
	case "after":
		return setDuration(d, name, &r.After)
	case "every":
		return setDuration(d, name, &r.Every)
	case "for":
		return setDuration(d, name, &r.For)
	}
	return errUnknown(d, "base, header, after, every or for")
}

// checkURL checks a URL as far as it is known before its placeholders are replaced. check, if any, refuses some.
func checkURL(s string, check func(*url.URL) error) error {
	if err := checkPlaceholders(s); err != nil {
		return err
	}
	if hasPlaceholder(s) {
		return nil
	}
	u, err := parseURL(s)
	if err != nil || check == nil {
		return err
	}
	return check(u)
}
