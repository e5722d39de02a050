package caddymodule

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay/filter"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// destinationOptions are the subdirectives that all destinations have.
const destinationOptions = "when, timeout, retry, permanent, header, sign, max_in_flight, rate, breaker, expire, order, body or transport"

// unmarshalBlock reads the block of a `to` subdirective.
func (to *Destination) unmarshalBlock(d *caddyfile.Dispenser) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := to.subdirective(d, destinationOptions); err != nil {
			return err
		}
	}
	return nil
}

// subdirective reads one of destinationOptions; expected lists all that there are.
func (to *Destination) subdirective(d *caddyfile.Dispenser, expected string) error {
	switch name := d.Val(); name {
	case "when":
		return to.setWhen(d)
	case "timeout":
		return setDuration(d, name, &to.Timeout)
	case "retry":
		return setRetry(d, &to.Retry)
	case "permanent":
		return to.setPermanent(d)
	case "header":
		return addHeader(d, &to.Header)
	case "sign":
		return to.setSign(d)
	case "max_in_flight":
		return set(d, "max_in_flight <number>", &to.MaxInFlight, parseCount)
	case "rate":
		return setText(d, "rate <n>/<s|m|h>", &to.Rate, func(s string) error {
			_, err := parseRate(s)
			return err
		})
	case "breaker":
		return to.setBreaker(d)
	case "expire":
		return setDuration(d, name, &to.Expire)
	case "order":
		return setText(d, "order task", &to.Order, checkOrder)
	case "body":
		return setText(d, "body original|archived", &to.Body, checkBody)
	case "transport":
		return to.setTransport(d)
	}
	return errUnknown(d, expected)
}

func (to *Destination) setWhen(d *caddyfile.Dispenser) error {
	if to.When != "" {
		return errRepeated(d, "when")
	}
	// As in Caddy's own expressions, several tokens keep their quotes, while a single one may be quoted as a whole.
	if d.CountRemainingArgs() > 1 {
		to.When = strings.Join(d.RemainingArgsRaw(), " ")
	} else if d.NextArg() {
		to.When = d.Val()
	}
	if strings.TrimSpace(to.When) == "" {
		return d.Errf("wrong number of arguments: expected when <CEL expression>")
	}
	if _, err := filter.Parse(to.When); err != nil {
		return d.Errf("when: %w", err)
	}
	return nil
}

func setRetry(d *caddyfile.Dispenser, to **Retry) error {
	const usage = "retry <delay>..., retry exponential <first> <longest> <count>, or retry off"
	if *to != nil {
		return errRepeated(d, "retry")
	}
	args, err := arguments(d, usage, 1, -1)
	if err != nil {
		return err
	}
	r := new(Retry)
	*to = r
	switch args[0] {
	case "off":
		if len(args) > 1 {
			return d.Errf("wrong number of arguments: expected %s", usage)
		}
		r.Off = true
	case "exponential":
		if len(args) != 4 {
			return d.Errf("wrong number of arguments: expected %s", usage)
		}
		if r.First, err = parseDuration(args[1]); err == nil {
			if r.Longest, err = parseDuration(args[2]); err == nil {
				r.Count, err = parseCount(args[3])
			}
		}
	default:
		for _, arg := range args {
			var delay Duration
			if delay, err = parseDuration(arg); err != nil {
				break
			}
			r.Delays = append(r.Delays, delay)
		}
	}
	if err == nil {
		_, err = r.policy()
	}
	if err != nil {
		return d.Errf("retry: %w", err)
	}
	return nil
}

func (to *Destination) setPermanent(d *caddyfile.Dispenser) error {
	if to.Permanent != nil {
		return errRepeated(d, "permanent")
	}
	args, err := arguments(d, "permanent <status>...", 1, -1)
	if err != nil {
		return err
	}
	for _, arg := range args {
		status, err := strconv.Atoi(arg)
		if err != nil {
			return d.Errf("permanent: expected response statuses from 300 to 599, got %q", arg)
		}
		to.Permanent = append(to.Permanent, status)
	}
	if err := checkPermanent(to.Permanent); err != nil {
		return d.Errf("permanent: %w", err)
	}
	return nil
}

// addHeader reads `header <name> <value>`, which may be repeated for other names.
func addHeader(d *caddyfile.Dispenser, to *map[string]string) error {
	args, err := arguments(d, "header <name> <value>", 2, 2)
	if err != nil {
		return err
	}
	name, value := args[0], args[1]
	if err := checkHeader(name); err != nil {
		return d.Errf("header: %w", err)
	}
	if err := checkPlaceholders(value); err != nil {
		return d.Errf("header %s: %w", name, err)
	}
	if !hasPlaceholder(value) {
		if err := checkHeaderValue(name, value); err != nil {
			return d.Errf("header %w", err)
		}
	}
	if *to == nil {
		*to = make(map[string]string)
	}
	canonical := http.CanonicalHeaderKey(name)
	if _, twice := (*to)[canonical]; twice {
		return d.Errf("header %s is repeated: expected it once", name)
	}
	(*to)[canonical] = value
	return nil
}

func (to *Destination) setSign(d *caddyfile.Dispenser) error {
	if to.Sign != nil {
		return errRepeated(d, "sign")
	}
	args, err := arguments(d, "sign <whsec_ secret> [<previous secret>]", 1, 2)
	if err != nil {
		return err
	}
	if slices.Contains(args, "") {
		return d.Errf("sign: expected a secret, got an empty text")
	}
	to.Sign = &Sign{Secret: args[0]}
	if len(args) > 1 {
		to.Sign.Previous = args[1]
	}
	if _, err := to.Sign.build(checkSecrets); err != nil {
		return d.Errf("sign: %w", err)
	}
	return nil
}

func (to *Destination) setBreaker(d *caddyfile.Dispenser) error {
	const usage = "breaker <failures> <probe interval>, or breaker off"
	if to.Breaker != nil {
		return errRepeated(d, "breaker")
	}
	args, err := arguments(d, usage, 1, 2)
	if err != nil {
		return err
	}
	to.Breaker = new(Breaker)
	if args[0] == "off" && len(args) == 1 {
		to.Breaker.Off = true
		return nil
	}
	if len(args) != 2 {
		return d.Errf("wrong number of arguments: expected %s", usage)
	}
	if to.Breaker.Failures, err = parseCount(args[0]); err == nil {
		to.Breaker.ProbeInterval, err = parseDuration(args[1])
	}
	if err != nil {
		return d.Errf("breaker: %w", err)
	}
	return nil
}

func (to *Destination) setTransport(d *caddyfile.Dispenser) error {
	if to.TransportRaw != nil {
		return errRepeated(d, "transport")
	}
	start := here(d)
	module, raw, err := guest(d, "transport http [{ ... }]", "http.reverse_proxy.transport", "protocol")
	if err != nil {
		return err
	}
	var u *url.URL
	if !hasPlaceholder(to.URL) {
		u, _ = parseURL(to.URL) // was checked when it was read
	}
	if err := checkTransport(module, u); err != nil {
		return start.errf("transport: %w", err)
	}
	to.TransportRaw = raw
	return nil
}
