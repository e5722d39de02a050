package lane

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	// leaseMargin is how much longer than its timeout an attempt's delivery is leased.
	leaseMargin = 30 * time.Second
	// leaseRetry is the pause after a lease that failed.
	leaseRetry = time.Second
)

// machine is the state of a lane: what it may start, and what it knows of the store's backlog. It has no clock, no lock
// and no goroutine; each method is one step, and leaves in feed and alarm what the lane must do next.
//
//	         wake            want             leased, none left
//	quiet ─────────▶ backlog ─────▶ leasing ──────────────────▶ quiet, until Next
//	  ▲                 ▲              │ more is due, or a wake came meanwhile
//	  │                 └──────────────┘
//	  └── accepted: a free slot and no backlog, so the delivery was leased as it was accepted
type machine struct {
	dest    *relay.Destination // nil while no settings name it
	stopped bool

	inFlight int  // slots taken; a slot is free again once its settle is durable
	promised int  // of them, to deliveries that are being accepted
	leasing  bool // a lease is being applied
	wakes    uint64
	woken    uint64 // wakes when the lease being applied was asked for
	backlog  bool   // the store may hold deliveries that are due
	waiting  bool   // the store may hold deliveries, due or not
	paused   bool
	limiter  *rate.Limiter // nil: not limited
	breaker  breaker

	feed  bool      // the committer must ask what the lane wants
	alarm time.Time // when the lane must wake by itself; zero: not at all
}

// configure sets new settings, or none. What is in flight goes on.
func (m *machine) configure(now time.Time, dst *relay.Destination) {
	before := m.dest
	m.dest = dst
	if dst == nil {
		return
	}
	m.breaker.configure(now, dst.Breaker)
	if before == nil || before.Rate != dst.Rate {
		m.limiter = newLimiter(dst.Rate)
	}
	m.wake()
}

// newLimiter spaces deliveries evenly: its burst is what falls due in 10 ms.
func newLimiter(r rate.Limit) *rate.Limiter {
	if r <= 0 {
		return nil
	}
	return rate.NewLimiter(r, max(1, int(math.Ceil(float64(r)/100))))
}

// wake notes that the store may hold deliveries that are due.
func (m *machine) wake() {
	m.wakes++
	m.backlog, m.waiting = true, true
	m.feed = m.feed || !m.stopped
}

// pause pauses or resumes the lane for an operator.
func (m *machine) pause(paused bool) {
	m.paused = paused
	if !paused {
		m.wake()
	}
}

// wakeAt sets the alarm, unless it goes off earlier.
func (m *machine) wakeAt(at time.Time) {
	if m.alarm.IsZero() || at.Before(m.alarm) {
		m.alarm = at
	}
}

// able reports whether the lane may start something, slots and rate aside.
func (m *machine) able() bool { return m.dest != nil && !m.stopped && !m.paused }

// lease is the time for which the lane leases a delivery.
func (m *machine) lease() time.Duration { return m.dest.Timeout + leaseMargin }

// want returns how many deliveries to lease now; credit is how many slots are about to be free. A held destination gets
// a single one at each probe.
func (m *machine) want(now time.Time, credit int) (n int, probe bool) {
	if !m.able() || m.leasing {
		return 0, false
	}
	probe = m.breaker.open
	if probe {
		if !m.waiting || m.breaker.probing {
			return 0, false
		}
		if now.Before(m.breaker.nextProbe) {
			m.wakeAt(m.breaker.nextProbe)
			return 0, false
		}
	} else if !m.backlog {
		return 0, false
	}
	n = min(m.dest.MaxInFlight-m.inFlight+credit, relay.MaxTouched/2)
	if m.limiter != nil {
		if tokens := m.limiter.TokensAt(now) - float64(m.promised); tokens < 1 {
			m.wakeAt(now.Add(time.Duration((1 - tokens) / float64(m.limiter.Limit()) * float64(time.Second))))
			n = 0
		} else {
			n = min(n, int(tokens))
		}
	}
	if probe {
		n = min(n, 1)
	}
	if n <= 0 {
		return 0, false
	}
	m.leasing = true
	m.woken = m.wakes
	return n, probe
}

// leased handles the result of a lease that want asked for.
func (m *machine) leased(now time.Time, lease *relay.Lease) {
	m.leasing = false
	if lease.Err != nil {
		m.wakeAt(now.Add(leaseRetry))
		return
	}
	quiet := m.wakes == m.woken
	if lease.Paused {
		if quiet {
			m.paused = true
		} else {
			m.feed = true // it may have been resumed since the lease was asked for
		}
		return
	}
	switch {
	case lease.Probe:
		// The breaker may have closed meanwhile, by an attempt from before it opened.
		m.breaker.probing = m.breaker.open && len(lease.Leased) > 0
		if len(lease.Leased) == 0 && quiet {
			m.waiting = false
		}
	case lease.Next == 0:
		if len(lease.Leased) == 0 {
			m.wakeAt(now.Add(leaseRetry))
		} else {
			m.feed = true
		}
	default:
		if quiet {
			m.backlog = false
		}
		if lease.Next > 0 {
			m.waiting = true
			m.wakeAt(now.Add(lease.Next))
		}
	}
	if !quiet {
		m.feed = true
	}
	m.charge(now, len(lease.Leased))
	m.inFlight += len(lease.Leased)
}

// charge counts deliveries against the rate.
func (m *machine) charge(now time.Time, n int) {
	if m.limiter != nil {
		m.limiter.AllowN(now, n)
	}
}

// reserve reserves a slot for a delivery that is about to be accepted, and reports whether there was one; credit is how many
// are about to be free.
func (m *machine) reserve(now time.Time, credit int) bool {
	if !m.able() || m.backlog || m.leasing || m.breaker.open || m.inFlight >= m.dest.MaxInFlight+credit {
		return false
	}
	if m.limiter != nil && m.limiter.TokensAt(now) < float64(m.promised+1) {
		return false
	}
	m.promised++
	m.inFlight++
	return true
}

// accepted handles the end of an accept: the delivery was leased at once, or waits in the store, or neither.
func (m *machine) accepted(now time.Time, reserved, leased, stored bool) {
	if reserved {
		m.promised--
	}
	switch {
	case leased:
		m.charge(now, 1)
		if !reserved {
			m.inFlight++
		}
		return
	case reserved:
		m.inFlight--
	}
	switch {
	case stored && m.leasing:
		// The lease is of the same step, which comes to accepts first: it has seen this one.
	case stored:
		m.wake()
	case reserved && m.backlog:
		m.feed = true // someone may have waited for this slot
	}
}

// settled handles a settle that is durable, or was refused because its lease is lost.
func (m *machine) settled(now time.Time, s *relay.Settle) {
	m.inFlight--
	if s.Err != nil {
		m.wake()
		return
	}
	switch s.Outcome {
	case relay.OutcomeRetry:
		m.waiting = true
		m.wakeAt(now.Add(max(s.Delay, time.Millisecond)))
	case relay.OutcomeRelease:
		m.wake()
	}
	if s.Unblocked {
		m.wake()
	}
	if m.backlog || m.breaker.open {
		m.feed = true
	}
}

// answered passes an answer to the breaker. held reports whether the destination was held when the answer came, changed
// whether the breaker opened or closed by it.
func (m *machine) answered(now time.Time, status int, event string, retryAfter time.Duration, probe bool) (held, changed bool) {
	held = m.breaker.open
	changed = m.breaker.record(status, event)
	if probe {
		m.breaker.probing = false
	}
	if probe || changed {
		m.breaker.nextProbe = now.Add(max(m.breaker.policy.Probe, retryAfter))
	}
	switch {
	case changed && m.breaker.open:
		m.waiting = true
		m.wakeAt(m.breaker.nextProbe)
	case changed:
		m.wake()
	}
	return held, changed
}

// unanswered ends a probe that came to no answer.
func (m *machine) unanswered(probe bool) {
	if probe {
		m.breaker.probing = false
		m.wake()
	}
}
