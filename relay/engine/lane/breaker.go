package lane

import (
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// breaker holds a destination after a run of failures. Its state is this process's own.
type breaker struct {
	policy relay.BreakerPolicy

	failures int // consecutive ones
	// A run of plain 500s of one event means that the event is poison, not that the destination is down.
	only500 bool
	event   string
	several bool

	open      bool
	probing   bool
	nextProbe time.Time
}

// configure sets a new policy. A destination that is held is probed within its interval, whatever was planned before: its new
// settings may be what it was held for.
func (b *breaker) configure(now time.Time, p relay.BreakerPolicy) {
	b.policy = p
	if p.Failures <= 0 {
		*b = breaker{}
	}
	if soon := now.Add(p.Probe); b.open && soon.Before(b.nextProbe) {
		b.nextProbe = soon
	}
}

// counts reports whether the outcome of an attempt speaks against its destination: no answer at all, 429 or 5xx.
func counts(status int) bool {
	return status == 0 || status == http.StatusTooManyRequests || status >= 500
}

// record counts the outcome of an attempt and reports whether the breaker opened or closed by it.
func (b *breaker) record(status int, event string) (changed bool) {
	if !counts(status) {
		changed = b.open
		*b = breaker{policy: b.policy}
		return changed
	}
	if b.policy.Failures <= 0 {
		return false
	}
	is500 := status == http.StatusInternalServerError
	if b.failures == 0 {
		b.only500, b.event, b.several = is500, event, false
	} else {
		b.only500 = b.only500 && is500
		b.several = b.several || b.event != event
	}
	b.failures++
	if b.open {
		return false
	}
	if b.failures >= b.policy.Failures && (b.several || !b.only500) {
		b.open, b.probing = true, false
		return true
	}
	return false
}
