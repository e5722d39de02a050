package relay

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// leaseMargin is how much longer than its timeout an attempt's delivery is leased.
const leaseMargin = 30 * time.Second

// leaseRetry is the pause after a lease that failed.
const leaseRetry = time.Second

// lane is the bulkhead of one destination: its slots, its breaker, its rate. It has no goroutine of its own: it says at
// each step of the committer what it can start at once, and leases no more than that. A backlog stays in the store.
type lane struct {
	engine *Engine
	commit *committer
	name   DestinationName

	mu      sync.Mutex
	dest    *Destination // nil while no settings name it
	metrics *laneMetrics
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

	timer   *time.Timer
	timerAt time.Time // zero: not set
}

func newLane(e *Engine, name DestinationName) *lane {
	l := &lane{engine: e, commit: e.committers.of(name.Source), name: name}
	l.timer = time.AfterFunc(time.Hour, l.fire)
	l.timer.Stop()
	return l
}

// configure gives the lane new settings, or none. What is in flight goes on.
func (l *lane) configure(dst *Destination) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.dest
	l.dest = dst
	if dst == nil {
		return
	}
	l.metrics = l.engine.metrics.lane(l.name)
	l.breaker.configure(dst.Breaker)
	if before == nil || before.Rate != dst.Rate {
		l.limiter = newLimiter(dst.Rate)
	}
	l.awaken()
}

// newLimiter spaces deliveries evenly: its burst is what falls due in 10 ms.
func newLimiter(r rate.Limit) *rate.Limiter {
	if r <= 0 {
		return nil
	}
	return rate.NewLimiter(r, max(1, int(math.Ceil(float64(r)/100))))
}

func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.timer.Stop()
}

// wake says that the store may hold deliveries that are due.
func (l *lane) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaken()
}

func (l *lane) awaken() {
	l.wakes++
	l.backlog, l.waiting = true, true
	if !l.stopped {
		l.commit.feed(l)
	}
}

// pause takes over what an operator said.
func (l *lane) pause(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = paused
	if !paused {
		l.awaken()
	}
}

// rouse wakes the lane by what a shared store says. Another gateway may have resumed the destination: the lease will tell.
func (l *lane) rouse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = false
	l.awaken()
}

// fire is the timer's.
func (l *lane) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timerAt = time.Time{}
	l.awaken()
}

// arm wakes the lane after d, unless it wakes earlier.
func (l *lane) arm(d time.Duration) {
	at := time.Now().Add(d)
	if l.stopped || !l.timerAt.IsZero() && !at.Before(l.timerAt) {
		return
	}
	l.timerAt = at
	l.timer.Reset(d)
}

// able says that the lane may start something, slots and rate aside.
func (l *lane) able() bool { return l.dest != nil && !l.stopped && !l.paused }

// want gives the lease to ask for at this step, or nil. credit is how many slots the step is about to free.
func (l *lane) want(credit int) *Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.able() || l.leasing {
		return nil
	}
	probe := l.breaker.open
	if probe {
		if !l.waiting || l.breaker.probing {
			return nil
		}
		if wait := time.Until(l.breaker.nextProbe); wait > 0 {
			l.arm(wait)
			return nil
		}
	} else if !l.backlog {
		return nil
	}
	n := min(l.dest.MaxInFlight-l.inFlight+credit, MaxTouched/2)
	if l.limiter != nil {
		if tokens := l.limiter.Tokens() - float64(l.promised); tokens < 1 {
			l.arm(time.Duration((1 - tokens) / float64(l.limiter.Limit()) * float64(time.Second)))
			n = 0
		} else {
			n = min(n, int(tokens))
		}
	}
	if probe {
		n = min(n, 1)
	}
	if n <= 0 {
		return nil
	}
	l.leasing = true
	l.woken = l.wakes
	return &Lease{
		Source: l.name.Source, Destination: l.name.Destination,
		Max: n, For: l.dest.Timeout + leaseMargin, Probe: probe,
	}
}

// leased takes what the store leased.
func (l *lane) leased(lease *Lease, before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leasing = false
	if lease.Err != nil {
		l.arm(leaseRetry)
		return
	}
	for _, d := range lease.Dead {
		l.engine.gaveUp(d)
	}
	quiet := l.wakes == l.woken
	if lease.Paused {
		if quiet {
			l.paused = true
		} else {
			l.commit.feed(l) // it may have been resumed since the lease was asked for
		}
		return
	}
	switch {
	case lease.Probe:
		// The breaker may have closed meanwhile, by an attempt from before it opened.
		l.breaker.probing = l.breaker.open && len(lease.Leased) > 0
		if len(lease.Leased) == 0 && quiet {
			l.waiting = false
		}
	case lease.Next == 0:
		if len(lease.Leased) == 0 {
			l.arm(leaseRetry)
		} else {
			l.commit.feed(l)
		}
	default:
		if quiet {
			l.backlog = false
		}
		if lease.Next > 0 {
			l.waiting = true
			l.arm(lease.Next)
		}
	}
	if !quiet {
		l.commit.feed(l)
	}
	if l.limiter != nil {
		l.limiter.AllowN(time.Now(), len(lease.Leased))
	}
	l.inFlight += len(lease.Leased)
	for _, d := range lease.Leased {
		l.start(d, before, lease.Probe)
	}
}

// reserve takes a slot for a delivery that is about to be accepted, and gives how long to lease it; zero if it must wait.
func (l *lane) reserve() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.able() || l.backlog || l.leasing || l.breaker.open || l.inFlight >= l.dest.MaxInFlight {
		return 0
	}
	if l.limiter != nil && l.limiter.Tokens() < float64(l.promised+1) {
		return 0
	}
	l.promised++
	l.inFlight++
	return l.dest.Timeout + leaseMargin
}

// accepted takes a delivery that was accepted: leased at once, or left in the store.
func (l *lane) accepted(reserved bool, d *Leased, stored bool, before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reserved {
		l.promised--
	}
	if d != nil {
		if l.limiter != nil {
			l.limiter.AllowN(time.Now(), 1)
		}
		l.start(d, before, false)
		return
	}
	if reserved {
		l.inFlight--
	}
	if stored {
		l.awaken()
	} else if reserved && l.backlog {
		l.commit.feed(l) // someone may have waited for this slot
	}
}

// start begins the attempt of a leased delivery. The caller holds l.mu.
func (l *lane) start(d *Leased, leasedAt time.Time, probe bool) {
	if l.engine.closing.Load() || l.dest == nil {
		if probe {
			l.breaker.probing = false
		}
		l.commit.settle(&settling{Settle: Settle{Leased: d, Outcome: OutcomeRelease}, lane: l})
		return
	}
	d.leasedAt = leasedAt
	dst := l.dest
	l.engine.attempts.Go(func() { l.attempt(dst, d, probe) })
}

// settled frees a slot.
func (l *lane) settled(s *settling) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	if s.Err != nil {
		l.engine.logger().Warn("lease was lost before its outcome was stored; the delivery is attempted again",
			"source", l.name.Source, "destination", l.name.Destination, "event_id", s.Leased.Event.ID, "error", s.Err)
		l.awaken()
		return
	}
	switch s.Outcome {
	case OutcomeRetry:
		l.waiting = true
		l.arm(max(s.Delay, time.Millisecond))
	case OutcomeRelease:
		l.awaken()
	}
	l.conclude(s)
	if s.Unblocked {
		l.awaken()
	}
	if l.backlog || l.breaker.open {
		l.commit.feed(l)
	}
}
