package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/filter"
	"github.com/callbackrelay/caddy-relay/relay/signer"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/time/rate"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Destination is a downstream webhook: it gets every event of its source, or those that When selects.
type Destination struct {
	// The name by which deliveries know it, whatever becomes of the URL. Default: the URL's host, with -port where
	// one is written. A URL with a placeholder needs a name. `archive` is reserved.
	Name string `json:"name,omitempty"`

	// Where events are posted: http or https. Placeholders: {env.*} and {file.*}.
	URL string `json:"url,omitempty"`

	// A CEL expression over code, msg, data, task_id, stage, headers and source that selects the events to deliver. It
	// is decided once, when the event is accepted; what cannot be evaluated is delivered. Default: every event.
	When string `json:"when,omitempty"`

	// How long one attempt may take. Default: 15s.
	Timeout Duration `json:"timeout,omitempty"`

	// When failed attempts are repeated. Default: after 1m, 5m and 15m.
	Retry *Retry `json:"retry,omitempty"`

	// Response statuses that make a dead letter at once. Default: 410.
	Permanent []int `json:"permanent,omitzero"`

	// Request headers to set. Host sets the request's host. Placeholders: {env.*} and {file.*}.
	Header map[string]string `json:"header,omitempty"`

	// Signs each attempt by Standard Webhooks. Default: not signed.
	Sign *Sign `json:"sign,omitempty"`

	// How many attempts may run at a time. Default: 16.
	MaxInFlight int `json:"max_in_flight,omitempty"`

	// How many attempts may begin in a time, as in 10/s, 100/m or 1000/h. Default: not limited.
	Rate string `json:"rate,omitempty"`

	// When the destination is held, and how often it is then probed. Default: after 3 failures, every 30s.
	Breaker *Breaker `json:"breaker,omitempty"`

	// A delivery not made this long after its event's acceptance becomes a dead letter, even if held or paused.
	// Default: 168h.
	Expire Duration `json:"expire,omitempty"`

	// `task` delivers the events of a task one at a time, in the order of their acceptance. Default: no order.
	Order string `json:"order,omitempty"`

	// The body that is sent: `original`, the callback's body byte for byte; or `archived`, in which the URLs of files are
	// replaced by those of their copies in the archive. Such a delivery waits for the archive, and keeps the original URLs of
	// what it gave up. Default: original.
	Body string `json:"body,omitempty"`

	// How it is sent. Default: `{"protocol": "http"}`, without compression.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
}

// Retry sets when failed attempts are repeated: after each of Delays, or exponentially, or never.
type Retry struct {
	// The wait before each retry.
	Delays []Duration `json:"delays,omitempty"`

	// The first of exponentially growing waits, which are spread at random.
	First Duration `json:"first,omitempty"`
	// The longest of them.
	Longest Duration `json:"longest,omitempty"`
	// How many retries follow the first attempt.
	Count int `json:"count,omitempty"`

	// Never retry: what fails is a dead letter.
	Off bool `json:"off,omitempty"`
}

// Sign holds the secrets that attempts are signed with.
type Sign struct {
	// The secret: whsec_ and base64. Placeholders: {env.*} and {file.*}.
	Secret string `json:"secret,omitempty"`
	// The secret before it, during a rotation: both sign.
	Previous string `json:"previous,omitempty"`
}

// Breaker sets when a destination is held.
type Breaker struct {
	// After how many consecutive failures. Default: 3.
	Failures int `json:"failures,omitempty"`
	// How often one waiting delivery is tried meanwhile. Default: 30s.
	ProbeInterval Duration `json:"probe_interval,omitempty"`
	// Never hold.
	Off bool `json:"off,omitempty"`
}

// label names the destination in errors, where its name may not be known yet.
func (d *Destination) label(i int) string {
	if name, err := d.name(); err == nil {
		return strconv.Quote(name)
	}
	return strconv.Itoa(i + 1)
}

// name is the configured name, or the default one.
func (d *Destination) name() (string, error) {
	name := d.Name
	if name == "" {
		if hasPlaceholder(d.URL) {
			return "", errors.New("a URL with a placeholder needs a name: to <name> <url>")
		}
		u, err := parseURL(d.URL)
		if err != nil {
			return "", err
		}
		name = u.Hostname()
		if u.Port() != "" {
			name += "-" + u.Port()
		}
		if !validName.MatchString(name) {
			return "", fmt.Errorf("the host %s cannot serve as a name; expected to <name> <url>", u.Host)
		}
	}
	if name == relay.ArchiveName {
		return "", fmt.Errorf("the name %s is reserved; expected another one", relay.ArchiveName)
	}
	return name, checkName(name)
}

// build makes the destination of which d is the configuration.
func (d *Destination) build(ctx caddy.Context) (*relay.Destination, error) {
	dst := &relay.Destination{
		Timeout:     d.Timeout.or(relay.DefaultTimeout),
		Permanent:   d.Permanent,
		MaxInFlight: cmp.Or(d.MaxInFlight, relay.DefaultMaxInFlight),
		Expire:      d.Expire.or(relay.DefaultExpire),
		OrderTask:   d.Order == orderTask,
	}
	if dst.Permanent == nil {
		dst.Permanent = []int{http.StatusGone}
	}
	for _, step := range []struct {
		field string
		do    func() error
	}{
		{"name", func() (err error) { dst.Name, err = d.name(); return err }},
		{"url", func() (err error) { dst.URL, err = resolveURL(d.URL); return err }},
		{"when", func() (err error) {
			if d.When != "" {
				dst.When, err = filter.Parse(d.When)
			}
			return err
		}},
		{"timeout", func() error { return checkPositive(dst.Timeout) }},
		{"retry", func() (err error) { dst.Retry, err = d.Retry.policy(); return err }},
		{"permanent", func() error { return checkPermanent(d.Permanent) }},
		{"header", func() (err error) { dst.Header, err = resolveHeader(d.Header); return err }},
		{"sign", func() (err error) { dst.Signer, err = d.Sign.build(resolveSecrets); return err }},
		{"max_in_flight", func() error { return checkCount(dst.MaxInFlight) }},
		{"rate", func() (err error) { dst.Rate, err = parseRate(d.Rate); return err }},
		{"breaker", func() (err error) { dst.Breaker, err = d.Breaker.policy(); return err }},
		{"expire", func() error { return checkPositive(dst.Expire) }},
		{"order", func() error { return checkOrder(d.Order) }},
		{"body", func() error { return checkBody(d.Body) }},
		{"transport", func() (err error) { dst.Transport, err = d.transport(ctx, dst); return err }},
	} {
		if err := step.do(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.field, err)
		}
	}
	return dst, nil
}

const (
	orderTask    = "task"
	bodyOriginal = "original"
	bodyArchived = "archived"
)

func checkOrder(s string) error {
	if s != "" && s != orderTask {
		return fmt.Errorf("expected %s, got %q", orderTask, s)
	}
	return nil
}

func checkBody(s string) error { return checkWord(s, bodyOriginal, bodyArchived) }

func checkCount(n int) error {
	if n < 1 {
		return fmt.Errorf("expected a number of at least 1, got %d", n)
	}
	return nil
}

// resolveURL returns the URL with its placeholders replaced. Its errors do not show it, since it may hold secrets.
func resolveURL(raw string) (*url.URL, error) {
	s, err := resolve(raw)
	if err != nil {
		return nil, err
	}
	return parseURL(s)
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // which leaves the URL out
		}
		return nil, fmt.Errorf("expected an http or https URL: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("expected an http or https URL with a host, as in https://example.com/hook")
	case u.User != nil:
		return nil, errors.New("expected a URL without credentials; send them with header Authorization")
	case u.Fragment != "":
		return nil, errors.New("expected a URL without a fragment, which is never sent")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("expected a port of 1 to 65535")
		}
	}
	if host := u.Hostname(); strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return nil, fmt.Errorf("expected a host name or an IP address: %w", err)
		}
	}
	return u, nil
}

func (r *Retry) policy() (relay.RetryPolicy, error) {
	if r == nil {
		return relay.DefaultRetry, nil
	}
	exponential := r.First != 0 || r.Longest != 0 || r.Count != 0
	switch {
	case r.Off && (exponential || len(r.Delays) > 0), exponential && len(r.Delays) > 0:
		return relay.RetryPolicy{}, errors.New("expected one of delays, exponential waits (first, longest, count), or off")
	case r.Off:
		return relay.RetryPolicy{}, nil
	case exponential:
		if r.First <= 0 || r.Longest < r.First || r.Count < 1 {
			return relay.RetryPolicy{}, errors.New("expected exponential waits with a first one above 0, a longest one that is not shorter, and a count of at least 1")
		}
		return relay.RetryPolicy{First: time.Duration(r.First), Longest: time.Duration(r.Longest), Count: r.Count}, nil
	case len(r.Delays) == 0:
		return relay.DefaultRetry, nil
	}
	var p relay.RetryPolicy
	for _, d := range r.Delays {
		if err := checkPositive(time.Duration(d)); err != nil {
			return p, err
		}
		p.Delays = append(p.Delays, time.Duration(d))
	}
	return p, nil
}

func (b *Breaker) policy() (relay.BreakerPolicy, error) {
	p := relay.BreakerPolicy{Failures: relay.DefaultBreakerFailures, Probe: relay.DefaultProbeInterval}
	if b == nil {
		return p, nil
	}
	if b.Off {
		if b.Failures != 0 || b.ProbeInterval != 0 {
			return p, errors.New("expected either off, or failures and probe_interval")
		}
		return relay.BreakerPolicy{}, nil
	}
	p.Failures = cmp.Or(b.Failures, p.Failures)
	p.Probe = b.ProbeInterval.or(p.Probe)
	if p.Failures < 1 || p.Probe <= 0 {
		return p, errors.New("expected at least 1 failure and a positive probe interval, as in breaker 3 30s")
	}
	return p, nil
}

// parseRate reads n/s, n/m or n/h. Without text there is no limit.
func parseRate(s string) (rate.Limit, error) {
	if s == "" {
		return 0, nil
	}
	count, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(count, 10, 31)
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if err != nil || n == 0 || per == 0 {
		return 0, fmt.Errorf("expected <n>/<s|m|h> such as 10/s, got %q", s)
	}
	return rate.Limit(float64(n) / per.Seconds()), nil
}

func checkPermanent(statuses []int) error {
	for i, s := range statuses {
		if s < 300 || s > 599 {
			return fmt.Errorf("expected response statuses from 300 to 599, got %d", s)
		}
		if slices.Contains(statuses[:i], s) {
			return fmt.Errorf("%d is repeated", s)
		}
	}
	return nil
}

// checkHeader reports whether a destination's header may be set: not what frames the request, and not what a consumer
// relies on to tell deliveries apart.
func checkHeader(name string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("expected the name of a header, got %q", name)
	}
	canonical := http.CanonicalHeaderKey(name)
	switch canonical {
	case "Content-Length", "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return fmt.Errorf("%s belongs to the connection; expected another header", name)
	}
	if strings.HasPrefix(canonical, "Webhook-") || strings.HasPrefix(canonical, "Relay-") {
		return fmt.Errorf("%s is set by the relay itself; expected another header", name)
	}
	return nil
}

// resolveHeader returns the headers with their placeholders replaced.
func resolveHeader(header map[string]string) (http.Header, error) {
	resolved := make(http.Header, len(header))
	for name, raw := range header {
		if err := checkHeader(name); err != nil {
			return nil, err
		}
		if _, twice := resolved[http.CanonicalHeaderKey(name)]; twice {
			return nil, fmt.Errorf("%s is repeated", name)
		}
		value, err := resolve(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := checkHeaderValue(name, value); err != nil {
			return nil, err
		}
		resolved.Set(name, value)
	}
	return resolved, nil
}

// checkHeaderValue does not show the value, since it may be a secret.
func checkHeaderValue(name, value string) error {
	if !httpguts.ValidHeaderFieldValue(value) {
		return fmt.Errorf("%s: expected a value without control characters", name)
	}
	if http.CanonicalHeaderKey(name) == "Host" {
		host, _, err := net.SplitHostPort(value)
		if err != nil {
			host = value
		}
		if host == "" || !httpguts.ValidHostHeader(value) {
			return fmt.Errorf("%s: expected a host, or host:port", name)
		}
	}
	return nil
}

// build makes the signer, of the secrets themselves or of stand-ins (checkSecrets).
func (s *Sign) build(secrets func([]string) ([]string, error)) (relay.Signer, error) {
	if s == nil {
		return nil, nil
	}
	both, err := secrets([]string{s.Secret, s.Previous})
	if err != nil {
		return nil, err
	}
	return signer.New(both[0], both[1])
}

func (s *Sign) literalSecret() bool { return literal([]string{s.Secret, s.Previous}) }
