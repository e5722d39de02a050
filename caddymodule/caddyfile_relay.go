package caddymodule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/callbackrelay/caddy-relay/relay"
)

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	relay [<matcher>] <source> {
//	    provider <name> [{ ... }]
//	    body json|form|any
//	    allow <ip|cidr|private_ranges>...
//	    allow_from <ip source module> [<args>]
//	    allow_mode enforce|observe
//	    verify <verifier> [<secret>...] [{ ... }]
//	    dedupe [task_id] [stage] [code] [path:<gjson>] [header:<name>]
//	    dedupe_window <duration>
//	    conflict keep|deliver
//	    max_body <size>
//	    ack_within <duration>
//	    respond <status> [<body>]
//	    to [<name>] <url> {
//	        when <CEL expression>
//	        timeout <duration>
//	        retry <delay>... | exponential <first> <longest> <count> | off
//	        permanent <status>...
//	        header <name> <value>
//	        sign <secret> [<previous secret>]
//	        max_in_flight <number>
//	        rate <n>/<s|m|h>
//	        breaker <failures> <probe interval> | off
//	        expire <duration>
//	        order task
//	        body original|archived
//	        transport http [{ ... }]
//	    }
//	    recover [<details URL>] {
//	        base <URL>
//	        header <name> <value>
//	        after <duration>
//	        every <duration>
//	        for <duration>
//	    }
//	    archive file <dir> | s3 <bucket> [{ ... }]
//	}
//
// The subdirectives allow_from, verify and to may be repeated. A source needs at least one destination.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	start := here(d)
	args, err := arguments(d, "relay [<matcher>] <source> { ... }", 1, 1)
	if err != nil {
		return err
	}
	h.Source = args[0]
	if err := checkSourceName(h.Source); err != nil {
		return d.Errf("source: %w", err)
	}
	provider, mode, recovery := start, start, start
	for d.NextBlock(0) {
		switch d.Val() {
		case "provider":
			provider = here(d)
		case "allow_mode":
			mode = here(d)
		case "recover":
			recovery = here(d)
		}
		if err := h.subdirective(d); err != nil {
			return err
		}
	}
	if err := h.checkTaskNamed(); err != nil {
		return provider.errf("provider custom: %w", err)
	}
	if h.AllowMode != "" && h.allowedBy() == "" {
		return mode.errf("%w", errNothingAllowed)
	}
	if len(h.Destinations) == 0 {
		return start.errf("source %q: %w", h.Source, errNoDestination)
	}
	if err := checkArchived(h.Destinations, h.ArchiveRaw); err != nil {
		return start.errf("source %q: %w", h.Source, err)
	}
	if h.Recover != nil { // before the preset, whose name says more
		if err := h.checkRecover(); err != nil {
			return recovery.errf("recover: %w", err)
		}
	}
	return h.expandPreset()
}

func (h *Handler) subdirective(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "provider":
		return setGuest(d, "provider <name> [{ ... }]", "relay.providers", "name", &h.ProviderRaw)
	case "allow":
		return setList(d, "allow <ip|cidr|"+privateRanges+">...", &h.Allow, func(list []string) error {
			_, err := parseAllow(list)
			return err
		})
	case "allow_from":
		var raw json.RawMessage
		if err := setGuest(d, "allow_from <ip source module> [<args>]", "http.ip_sources", "source", &raw); err != nil {
			return err
		}
		h.AllowFromRaw = append(h.AllowFromRaw, raw)
		return nil
	case "allow_mode":
		return setWord(d, name, &h.AllowMode, allowModes...)
	case "body":
		return setWord(d, name, &h.Body, formats...)
	case "conflict":
		return setWord(d, name, &h.Conflict, conflictModes...)
	case "verify":
		var raw json.RawMessage
		if err := setGuest(d, "verify <verifier> [<secret>...]", "relay.verifiers", "verifier", &raw); err != nil {
			return err
		}
		h.VerifyRaw = append(h.VerifyRaw, raw)
		return nil
	case "dedupe":
		return setList(d, "dedupe [task_id] [stage] [code] [path:<gjson>] [header:<name>]", &h.Dedupe, func(list []string) error {
			_, err := parseDedupe(list)
			return err
		})
	case "dedupe_window":
		return setDuration(d, name, &h.DedupeWindow)
	case "max_body":
		return set(d, "max_body <size>", &h.MaxBody, parseMaxBody)
	case "ack_within":
		if err := setDuration(d, name, &h.AckWithin); err != nil {
			return err
		}
		if err := checkAckWithin(h.AckWithin.or(0)); err != nil {
			return d.Errf("%s: %w", name, err)
		}
		return nil
	case "respond":
		return h.setRespond(d)
	case "to":
		return h.addDestination(d)
	case "archive":
		return setGuest(d, "archive file <dir> | archive s3 <bucket> [{ ... }]", "relay.archives", "storage", &h.ArchiveRaw)
	case "recover":
		return h.setRecover(d)
	}
	return errUnknown(d, "provider, body, allow, allow_from, allow_mode, verify, dedupe, dedupe_window, conflict, max_body, ack_within, respond, to, recover or archive")
}

func parseMaxBody(s string) (int64, error) {
	size, err := humanize.ParseBytes(s)
	if err != nil || size == 0 || size > relay.MaxBodyLimit {
		return 0, fmt.Errorf("expected a size up to 32MiB such as 512KiB, got %q", s)
	}
	return int64(size), nil // bounded just above
}

func (h *Handler) setRespond(d *caddyfile.Dispenser) error {
	if h.Respond != nil {
		return errRepeated(d, "respond")
	}
	args, err := arguments(d, "respond <status> [<body>]", 1, 2)
	if err != nil {
		return err
	}
	status, err := strconv.Atoi(args[0])
	if err != nil {
		return d.Errf("respond: expected a 2xx status, got %q", args[0])
	}
	h.Respond = &Response{Status: status}
	if len(args) > 1 {
		h.Respond.Body = args[1]
	}
	if status == 0 {
		return d.Errf("respond: expected a 2xx status, got 0")
	}
	if _, err := h.Respond.build(); err != nil {
		return d.Errf("respond: %w", err)
	}
	return nil
}

func (h *Handler) addDestination(d *caddyfile.Dispenser) error {
	to, err := parseTo(d, h.Destinations)
	if err != nil {
		return err
	}
	h.Destinations = append(h.Destinations, to)
	return to.unmarshalBlock(d)
}

// parseTo reads the line of a `to` subdirective, beside destinations that have been read already.
func parseTo(d *caddyfile.Dispenser, others []*Destination) (*Destination, error) {
	start := here(d)
	args, err := arguments(d, "to [<name>] <url>", 1, 2)
	if err != nil {
		return nil, err
	}
	to := &Destination{URL: args[len(args)-1]}
	if len(args) == 2 {
		to.Name = args[0]
		if to.Name == "" {
			return nil, d.Errf("to: expected to [<name>] <url>, got an empty name")
		}
	}
	if err := checkPlaceholders(to.URL); err != nil {
		return nil, d.Errf("to: %w", err)
	}
	name, err := to.name()
	if err != nil {
		return nil, d.Errf("to: %w", err)
	}
	if err := checkURL(to.URL, nil); err != nil {
		return nil, d.Errf("to: %w", err)
	}
	if slices.ContainsFunc(others, func(other *Destination) bool {
		known, _ := other.name() // was checked when it was read
		return known == name
	}) {
		return nil, start.errf("to: two destinations are named %q; expected a name of its own for each: to <name> <url>", name)
	}
	return to, nil
}

// setList sets a list that check accepts.
func setList(d *caddyfile.Dispenser, usage string, to *[]string, check func([]string) error) error {
	name := d.Val()
	if *to != nil {
		return errRepeated(d, name)
	}
	args, err := arguments(d, usage, 1, -1)
	if err != nil {
		return err
	}
	if err := check(args); err != nil {
		return d.Errf("%s: %w", name, err)
	}
	*to = args
	return nil
}

// setWord sets one of the words.
func setWord(d *caddyfile.Dispenser, name string, to *string, words ...string) error {
	return setText(d, name+" "+strings.Join(words, "|"), to, func(s string) error { return checkWord(s, words...) })
}

// setGuest sets the JSON of a guest module.
func setGuest(d *caddyfile.Dispenser, usage, namespace, inlineKey string, to *json.RawMessage) error {
	if *to != nil {
		return errRepeated(d, d.Val())
	}
	_, raw, err := guest(d, usage, namespace, inlineKey)
	*to = raw
	return err
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Handler)(nil)
