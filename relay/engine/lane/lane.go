// Package lane is the bulkhead of a destination: its slots, its breaker, its rate. A lane leases no more than it can start
// at once, so that a backlog stays in the store, and what one destination does costs the others nothing (6).
package lane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Lane drives the machine of one destination: it guards it with a lock, starts the attempts that it allows, and settles
// them. It has no goroutine of its own between them; a committer asks it at each step what it wants to lease.
type Lane struct {
	lanes *Lanes
	name  relay.DestinationName

	mu        sync.Mutex
	machine   machine
	meter     *meter.Lane
	committer *commit.Committer // nil before the store is open
	timer     *time.Timer
	timerAt   time.Time        // zero: not set
	underWay  map[string]*turn // attempts by event, with what waits for their end, if anything
}

func newLane(ls *Lanes, name relay.DestinationName) *Lane {
	l := &Lane{lanes: ls, name: name, underWay: map[string]*turn{}}
	l.timer = time.AfterFunc(time.Hour, l.fire)
	l.timer.Stop()
	return l
}

// do makes one step of the machine and then does what it asks for.
func (l *Lane) do(step func(m *machine, now time.Time)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	step(&l.machine, time.Now())
	l.follow()
}

// follow feeds the committer and sets the timer as the machine asks for. The caller holds mu.
func (l *Lane) follow() {
	m := &l.machine
	if m.feed && l.commit() != nil {
		m.feed = false
		l.committer.Feed(l)
	}
	if at := m.alarm; !at.IsZero() {
		m.alarm = time.Time{}
		if !m.stopped && (l.timerAt.IsZero() || at.Before(l.timerAt)) {
			l.timerAt = at
			l.timer.Reset(time.Until(at))
		}
	}
}

// commit returns the committer, or nil before the store is open. The caller holds mu.
func (l *Lane) commit() *commit.Committer {
	if l.committer == nil {
		l.committer = l.lanes.params.Commit.Of(l.name.Source)
	}
	return l.committer
}

// fire is the timer's.
func (l *Lane) fire() {
	l.do(func(m *machine, _ time.Time) {
		l.timerAt = time.Time{}
		m.wake()
	})
}

// Wake notes that the store may hold deliveries that are due.
func (l *Lane) Wake() { l.do(func(m *machine, _ time.Time) { m.wake() }) }

// Pause pauses or resumes the lane for an operator.
func (l *Lane) Pause(paused bool) { l.do(func(m *machine, _ time.Time) { m.pause(paused) }) }

// Rouse wakes the lane for a shared store. Another gateway may have resumed the destination, which the next lease shows.
func (l *Lane) Rouse() { l.do(func(m *machine, _ time.Time) { m.pause(false) }) }

func (l *Lane) configure(dst *relay.Destination) {
	l.do(func(m *machine, now time.Time) {
		m.configure(now, dst)
		if dst != nil {
			l.meter = l.lanes.params.Meter.Lane(l.name)
		}
	})
}

func (l *Lane) stop() {
	l.do(func(m *machine, _ time.Time) { m.stopped = true })
	l.timer.Stop()
}

// Want implements commit.Lane.
func (l *Lane) Want(credit int) (lease *relay.Lease) {
	l.do(func(m *machine, now time.Time) {
		if n, probe := m.want(now, credit); n > 0 {
			lease = &relay.Lease{Source: l.name.Source, Destination: l.name.Destination, Max: n, For: m.lease(), Probe: probe}
		}
	})
	return lease
}

// Leased implements commit.Lane.
func (l *Lane) Leased(lease *relay.Lease, before time.Time) {
	l.do(func(m *machine, now time.Time) {
		m.leased(now, lease)
		for _, d := range lease.Leased {
			l.start(d, before, lease.Probe)
		}
	})
	for _, d := range lease.Dead {
		l.lanes.params.GaveUp(d)
	}
}

// Reserve implements commit.Lane.
func (l *Lane) Reserve(credit int) (lease time.Duration) {
	l.do(func(m *machine, now time.Time) {
		if m.reserve(now, credit) {
			lease = m.lease()
		}
	})
	return lease
}

// Accepted implements commit.Lane.
func (l *Lane) Accepted(reserved bool, d *relay.Leased, stored bool, before time.Time) {
	l.do(func(m *machine, now time.Time) {
		m.accepted(now, reserved, d != nil, stored)
		if d != nil {
			l.start(d, before, false)
		}
	})
}

// start begins the attempt of a leased delivery. The caller holds mu.
func (l *Lane) start(d *relay.Leased, leasedAt time.Time, probe bool) {
	d.LeasedAt = leasedAt
	if l.machine.stopped || l.machine.dest == nil {
		l.machine.unanswered(probe)
		l.release(d, nil)
		return
	}
	if l.behind(turn{d, leasedAt, probe}) {
		return
	}
	dst := l.machine.dest
	l.lanes.attempts.run(func() { l.attempt(dst, d, probe) })
}

// release hands a delivery back as if it had not been leased, but for the files that were stored meanwhile. A committer is
// there, since it brought the lease.
func (l *Lane) release(d *relay.Leased, files []relay.File) {
	l.committer.Settle(&commit.Settling{Settle: relay.Settle{Leased: d, Outcome: relay.OutcomeRelease, Files: files}, Lane: l})
}

// attempt tries a leased delivery once and settles it.
func (l *Lane) attempt(dst *relay.Destination, d *relay.Leased, probe bool) {
	defer l.over(d)
	if dst.Expire > 0 && d.Age >= dst.Expire {
		l.do(func(m *machine, _ time.Time) { m.unanswered(probe) })
		l.committer.Settle(&commit.Settling{Lane: l, Settle: relay.Settle{
			Leased: d, Outcome: relay.OutcomeDead, Reason: relay.ErrExpired.Error(),
		}})
		return
	}
	if time.Since(d.LeasedAt) > leaseMargin-5*time.Second {
		// The step or this goroutine was held up: the rest of the lease may be shorter than the attempt.
		l.release(d, nil)
		l.do(func(m *machine, _ time.Time) { m.unanswered(probe) })
		return
	}
	if d.Replay > 0 && l.lanes.params.Behind(l.lanes.ctx, dst, d) {
		l.do(func(m *machine, _ time.Time) { m.unanswered(probe) })
		l.committer.Settle(&commit.Settling{Lane: l, Settle: relay.Settle{Leased: d, Outcome: relay.OutcomeRetry, Delay: behindPause}})
		return
	}
	a := l.try(dst, d)
	if dst.Archiver != nil {
		l.lanes.params.Meter.CountFiles(l.name.Source, a.Files, a.Missing)
	}
	if a.Released {
		l.do(func(m *machine, _ time.Time) { m.unanswered(probe) })
		l.release(d, a.Files)
		return
	}
	s := &commit.Settling{Settle: relay.Settle{Leased: d}, Lane: l}
	decide(&s.Settle, dst, a, l.answered(a, d, probe))
	l.committer.Settle(s)
}

// try makes the attempt. A panic in a transport is an answer that never came (12).
func (l *Lane) try(dst *relay.Destination, d *relay.Leased) (a *courier.Answer) {
	start := time.Now()
	err := guard.Step(func() error {
		a = l.lanes.params.Courier.Attempt(l.lanes.ctx, dst, d)
		return nil
	})
	if err != nil {
		a = &courier.Answer{Attempt: relay.Attempt{At: start, Duration: time.Since(start), Error: "the gateway failed: " + err.Error()}}
	} else if a.Missing != nil {
		err = a.Missing.Panic
	}
	if err != nil {
		l.lanes.params.Logger().Error("an attempt failed inside the gateway", "source", l.name.Source,
			"destination", l.name.Destination, "event_id", d.Event.ID, "error", err, "stack", guard.Stack(err))
	}
	return a
}

// answered passes an answer to the breaker and reports whether the destination was held when it came.
func (l *Lane) answered(a *courier.Answer, d *relay.Leased, probe bool) (held bool) {
	var changed bool
	var after breaker
	l.do(func(m *machine, now time.Time) {
		held, changed = m.answered(now, a.Verdict(), d.Event.ID, a.RetryAfter, probe)
		after = m.breaker
	})
	if !changed {
		return held
	}
	logger := l.lanes.params.Logger().With("source", l.name.Source, "destination", l.name.Destination)
	if after.open {
		logger.Warn("breaker opened: the destination is held and probed",
			"failures", after.failures, "probe", after.policy.Probe, "last_status", a.Status, "last_error", a.Error)
	} else {
		logger.Info("breaker closed: the destination answers again")
	}
	return held
}

// Settled implements commit.Lane.
func (l *Lane) Settled(s *commit.Settling) {
	var metrics *meter.Lane
	l.do(func(m *machine, now time.Time) {
		m.settled(now, &s.Settle)
		metrics = l.meter
	})
	if s.Err != nil {
		l.lanes.params.Logger().Warn("lease lost before its outcome was stored; the delivery is attempted again",
			"source", l.name.Source, "destination", l.name.Destination, "event_id", s.Leased.Event.ID, "error", s.Err)
		return
	}
	l.conclude(&s.Settle, metrics)
}

// conclude counts and logs a settle that is durable.
func (l *Lane) conclude(s *relay.Settle, metrics *meter.Lane) {
	d, a := s.Leased, s.Attempt
	if s.Outcome == relay.OutcomeRetry && a == nil {
		return // it waits for another one
	}
	text, status, tries := s.Reason, 0, d.Tries
	if a != nil {
		metrics.AttemptDuration.Observe(a.Duration.Seconds())
		status, tries = a.Status, tries+1
		if text == "" {
			text = a.Error
		}
	}
	l.lanes.params.Settled(s, status, text)
	logger := l.lanes.params.Logger()
	if s.Outcome == relay.OutcomeDelivered {
		metrics.Delivered.Inc()
		metrics.Latency.Observe((d.Age + a.At.Sub(d.LeasedAt) + a.Duration).Seconds())
		if !logger.Enabled(context.Background(), slog.LevelDebug) {
			return
		}
	}
	logger = logger.With("source", l.name.Source, "destination", l.name.Destination,
		"event_id", d.Event.ID, "task_id", d.Event.TaskID, "attempt", tries, "status", status)
	switch s.Outcome {
	case relay.OutcomeDelivered:
		logger.Debug("delivered")
	case relay.OutcomeRetry:
		metrics.Retry.Inc()
		if s.Delay > 0 { // else a probe tries it, when it is its turn
			logger = logger.With("retry_in", s.Delay)
		}
		logger.Warn("attempt failed", "error", text)
	case relay.OutcomeDead:
		if a != nil {
			metrics.Dead.Inc()
			logger.Warn("attempt failed", "error", text)
		}
		l.lanes.params.GaveUp(relay.DeadLetter{
			EventID: d.Event.ID, Source: l.name.Source, TaskID: d.Event.TaskID, Destination: l.name.Destination,
			Attempts: tries, LastStatus: status, LastError: text, DeadAt: time.Now(),
		})
	}
}

// Breaker is the state of a destination's breaker on this node.
type Breaker struct {
	Open      bool
	Failures  int       // consecutive ones
	NextProbe time.Time // while it is open
}

// Breaker returns the state of the lane's breaker.
func (l *Lane) Breaker() Breaker {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.machine.breaker
	return Breaker{Open: b.open, Failures: b.failures, NextProbe: b.nextProbe}
}

var _ commit.Lane = (*Lane)(nil)
