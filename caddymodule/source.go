package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/payload"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// privateRanges in an address list stands for the private ranges of IPv4 and IPv6, and loopback.
const privateRanges = "private_ranges"

// defaultDedupe is the key of a callback where the configuration names none.
var defaultDedupe = []string{"task_id", "stage", "code"}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// build makes the source of which the handler is the configuration. It loads the handler's guest modules.
func (h *Handler) build(ctx caddy.Context) (*relay.Source, error) {
	if err := checkSourceName(h.Source); err != nil {
		return nil, err
	}
	src := &relay.Source{
		Name:         h.Source,
		Provider:     provider.Suno(),
		Observe:      h.AllowMode == allowObserve,
		DedupeWindow: h.DedupeWindow.or(relay.DefaultDedupeWindow),
		MaxBody:      cmp.Or(h.MaxBody, relay.DefaultMaxBody),
		AckWithin:    h.AckWithin.or(relay.DefaultAckWithin),
		Logger:       ctx.Slogger(),

		DeliverConflicts: h.Conflict == conflictDeliver,
	}
	if err := checkPositive(src.DedupeWindow); err != nil {
		return nil, fmt.Errorf("dedupe_window: %w", err)
	}
	if err := checkMaxBody(src.MaxBody); err != nil {
		return nil, fmt.Errorf("max_body: %w", err)
	}
	if err := checkAckWithin(src.AckWithin); err != nil {
		return nil, fmt.Errorf("ack_within: %w", err)
	}
	// An empty list would admit everyone, where somebody meant to admit no one.
	if h.Allow != nil && len(h.Allow) == 0 || h.AllowFromRaw != nil && len(h.AllowFromRaw) == 0 || h.VerifyRaw != nil && len(h.VerifyRaw) == 0 {
		return nil, errors.New("allow, allow_from and verify: expected at least one entry, or no such field")
	}
	var err error
	if src.Body, err = parseFormat(h.Body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if err := checkWord(h.AllowMode, allowModes...); err != nil {
		return nil, fmt.Errorf("allow_mode: %w", err)
	}
	if h.AllowMode != "" && h.allowedBy() == "" {
		return nil, errNothingAllowed
	}
	if err := checkWord(h.Conflict, conflictModes...); err != nil {
		return nil, fmt.Errorf("conflict: %w", err)
	}
	if src.Allow, err = parseAllow(h.Allow); err != nil {
		return nil, fmt.Errorf("allow: %w", err)
	}
	if src.Dedupe, err = parseDedupe(h.Dedupe); err != nil {
		return nil, fmt.Errorf("dedupe: %w", err)
	}
	if src.Response, err = h.Respond.build(); err != nil {
		return nil, fmt.Errorf("respond: %w", err)
	}
	if src.Recover, err = h.buildRecovery(); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if err := h.checkTaskNamed(); err != nil {
		return nil, fmt.Errorf("provider custom: %w", err)
	}
	name := h.providerName() // which is not known any more once it is loaded
	if err := h.loadGuests(ctx, src); err != nil {
		return nil, err
	}
	if src.Destinations, err = buildDestinations(ctx, h.Destinations); err != nil {
		return nil, err
	}
	if err := h.addArchive(ctx, src, name); err != nil {
		return nil, err
	}
	h.warn(src, name)
	return src, nil
}

// buildDestinations returns the destinations of a source.
func buildDestinations(ctx caddy.Context, list []*Destination) (built []*relay.Destination, err error) {
	if len(list) == 0 {
		return nil, errNoDestination
	}
	for i, d := range list {
		if d == nil {
			return nil, errNoDestination // null, in JSON
		}
		destination, err := d.build(ctx)
		if err != nil {
			return nil, fmt.Errorf("destination %s: %w", d.label(i), err)
		}
		if slices.ContainsFunc(built, func(other *relay.Destination) bool { return other.Name == destination.Name }) {
			return nil, fmt.Errorf("two destinations are named %q; expected a name of its own for each", destination.Name)
		}
		built = append(built, destination)
	}
	return built, nil
}

// warnOfLiteralSecrets logs which destinations have a secret, or what may hold one, that the admin API shows.
func warnOfLiteralSecrets(log *slog.Logger, list []*Destination, built []*relay.Destination) {
	for i, d := range list {
		name := built[i].Name
		if d.Sign != nil && d.Sign.literalSecret() {
			warnOfLiteral(log, "a secret of sign", "destination", name)
		}
		if literalHeader(d.Header) {
			warnOfLiteral(log, "a secret of header", "destination", name)
		}
		warnOfLiteralQuery(log, "the URL", d.URL, "destination", name)
	}
}

// loadGuests loads provider, address lists and verifiers.
func (h *Handler) loadGuests(ctx caddy.Context, src *relay.Source) error {
	if h.ProviderRaw != nil {
		module, err := ctx.LoadModule(h, "ProviderRaw")
		if err != nil {
			return fmt.Errorf("provider: %w", err)
		}
		p, ok := module.(relay.Provider)
		if !ok {
			return fmt.Errorf("provider: %T does not know callbacks", module)
		}
		src.Provider = unwrap(p)
	}
	if h.AllowFromRaw != nil {
		modules, err := ctx.LoadModule(h, "AllowFromRaw")
		if err != nil {
			return fmt.Errorf("allow_from: %w", err)
		}
		for _, module := range modules.([]any) {
			list, ok := module.(caddyhttp.IPRangeSource)
			if !ok {
				return fmt.Errorf("allow_from: %T does not list addresses", module)
			}
			src.AllowFrom = append(src.AllowFrom, list)
		}
	}
	if h.VerifyRaw == nil {
		return nil
	}
	modules, err := ctx.LoadModule(h, "VerifyRaw")
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for _, module := range modules.([]any) {
		v, ok := module.(relay.Verifier)
		if !ok {
			return fmt.Errorf("verify: %T does not verify callbacks", module)
		}
		src.Verifiers = append(src.Verifiers, v)
	}
	return nil
}

// warn logs what is allowed and rarely wanted.
func (h *Handler) warn(src *relay.Source, provider string) {
	log := src.Logger.With("source", src.Name)
	switch {
	case src.Observe && src.Open():
		log.Warn("source is open: allow_mode is observe, so that anyone who knows the address can send it callbacks; set enforce or verify")
	case src.Open():
		log.Warn("source is open: anyone who knows the address can send it callbacks; set allow or verify")
	}
	if src.Response.Status != http.StatusOK {
		log.Warn("respond is not 200: a provider that expects 200 sends its callbacks again", "status", src.Response.Status)
	}
	for _, v := range src.Verifiers {
		if s, ok := v.(interface{ literalSecret() bool }); ok && s.literalSecret() {
			warnOfLiteral(log, "a secret of verify")
		}
		if token, ok := v.(*Token); ok {
			token.warn(log, src, provider == kieName)
		}
	}
	if h.Recover != nil {
		if literalHeader(h.Recover.Header) {
			warnOfLiteral(log, "a secret of recover")
		}
		warnOfLiteralQuery(log, "recover", h.Recover.Details)
	}
	warnOfLiteralSecrets(log, h.Destinations, src.Destinations)
}

func (r *Response) build() (relay.Response, error) {
	if r == nil {
		return relay.Response{Status: http.StatusOK, Body: relay.DefaultResponse, ContentType: "application/json"}, nil
	}
	res := relay.Response{Status: cmp.Or(r.Status, http.StatusOK), Body: r.Body, ContentType: "text/plain; charset=utf-8"}
	if res.Status < 200 || res.Status > 299 {
		return res, fmt.Errorf("expected a 2xx status, got %d", res.Status)
	}
	if res.Body != "" && (res.Status == http.StatusNoContent || res.Status == http.StatusResetContent) {
		return res, fmt.Errorf("status %d has no body", res.Status)
	}
	if json.Valid([]byte(r.Body)) {
		res.ContentType = "application/json"
	}
	return res, nil
}

// What allow_mode and conflict may be; the first one is the default.
const (
	allowObserve    = "observe"
	conflictDeliver = "deliver"
)

var (
	allowModes    = []string{"enforce", allowObserve}
	conflictModes = []string{"keep", conflictDeliver}
	formats       = []string{string(payload.JSON), string(payload.Form), string(payload.Any)}
)

// checkWord accepts one of the words, or none.
func checkWord(s string, words ...string) error {
	if s != "" && !slices.Contains(words, s) {
		last := len(words) - 1
		return fmt.Errorf("expected %s or %s, got %q", strings.Join(words[:last], ", "), words[last], s)
	}
	return nil
}

func parseFormat(s string) (payload.Format, error) {
	return payload.Format(cmp.Or(s, string(payload.JSON))), checkWord(s, formats...)
}

var errNothingAllowed = errors.New("allow_mode: expected allow or allow_from beside it; without them everyone may call")

var errNoDestination = errors.New("expected at least one destination: to [<name>] <url>")

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("expected a name of up to 63 letters, digits, dots, dashes and underscores that begins with a letter or a digit, got %q", name)
	}
	return nil
}

// checkSourceName refuses the name of the built-in source, too.
func checkSourceName(name string) error {
	if name == relay.AlertSource {
		return fmt.Errorf("%q is the built-in source of alerts; expected another name", name)
	}
	return checkName(name)
}

func checkPositive(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("expected a positive duration such as 30s, got %s", Duration(d))
	}
	return nil
}

func checkMaxBody(n int64) error {
	if n < 1 || n > relay.MaxBodyLimit {
		return fmt.Errorf("expected a size of 1 byte to 32MiB, got %d bytes", n)
	}
	return nil
}

func checkAckWithin(d time.Duration) error {
	if d <= 0 || d > relay.MaxAckWithin {
		return fmt.Errorf("expected a duration above 0 and up to %s, since the sender waits 15s, got %s", relay.MaxAckWithin, Duration(d))
	}
	return nil
}

// parseAllow reads addresses and ranges.
func parseAllow(list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range list {
		texts := []string{s}
		if s == privateRanges {
			texts = caddyhttp.PrivateRangesCIDR()
		}
		for _, text := range texts {
			p, err := parsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("expected an IP address, a CIDR range or %s, got %q", privateRanges, s)
			}
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	addr = addr.Unmap().WithZone("")
	return addr.Prefix(addr.BitLen())
}

// parseDedupe reads the fields of a dedupe key.
func parseDedupe(list []string) ([]relay.DedupeField, error) {
	if len(list) == 0 {
		list = defaultDedupe
	}
	var fields []relay.DedupeField
	for _, s := range list {
		kind, name, named := strings.Cut(s, ":")
		f := relay.DedupeField{Kind: relay.DedupeKind(kind), Name: name}
		switch f.Kind {
		case relay.DedupeTaskID, relay.DedupeStage, relay.DedupeCode:
			if named {
				return nil, fmt.Errorf("expected %s without a name, got %q", kind, s)
			}
		case relay.DedupePath:
			if err := payload.CheckPath(name); err != nil {
				return nil, err
			}
		case relay.DedupeHeader:
			if !httpguts.ValidHeaderFieldName(name) {
				return nil, fmt.Errorf("expected header:<name>, got %q", s)
			}
			f.Name = http.CanonicalHeaderKey(name)
		default:
			return nil, fmt.Errorf("expected task_id, stage, code, path:<gjson path> or header:<name>, got %q", s)
		}
		if slices.Contains(fields, f) {
			return nil, fmt.Errorf("%s is repeated", s)
		}
		fields = append(fields, f)
	}
	return fields, nil
}
