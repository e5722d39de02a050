package relay

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// maxRetryAfter is the most that a destination may ask for by Retry-After.
const maxRetryAfter = time.Hour

// settle makes of an answer what becomes of the delivery, and hands it to the committer. a is nil where the delivery
// expired before it could be tried.
func (l *lane) settle(dst *Destination, d *Leased, a *answer, probe bool) {
	s := &settling{Settle: Settle{Leased: d}, lane: l}
	switch {
	case a == nil:
		s.Outcome, s.Reason = OutcomeDead, ErrExpired.Error()
		l.unprobe(probe)
	case a.released:
		s.Outcome = OutcomeRelease
		l.unprobe(probe)
	default:
		held := l.record(a, d, probe)
		decide(&s.Settle, dst, a, held)
	}
	l.commit.settle(s)
}

// decide applies the retry rules to an answer. held says that the destination's breaker was open when it came.
func decide(s *Settle, dst *Destination, a *answer, held bool) {
	d := s.Leased
	s.Attempt = &a.Attempt
	s.Used = true
	if success(a.Status) {
		s.Outcome = OutcomeDelivered
		return
	}
	if slices.Contains(dst.Permanent, a.Status) {
		s.Outcome = OutcomeDead
		return
	}
	if held && counts(a.Status) {
		// What fails while the destination is held says nothing about the delivery: it goes to the end of the queue, and the
		// next probe decides when it is tried again.
		s.Outcome, s.Used = OutcomeRetry, false
		return
	}
	delay, ok := dst.Retry.Delay(d.Used)
	if !ok {
		s.Outcome = OutcomeDead
		return
	}
	s.Outcome, s.Delay = OutcomeRetry, max(delay, a.retryAfter)
	if dst.Expire > 0 {
		// It is leased once more when it expires, to be given up.
		s.Delay = min(s.Delay, max(0, dst.Expire-d.Age-a.Duration))
	}
}

// record tells the breaker of an answer and says whether the destination was held when it came.
func (l *lane) record(a *answer, d *Leased, probe bool) (held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	held = l.breaker.open
	changed := l.breaker.record(a.Status, d.Event.ID)
	if probe {
		l.breaker.probing = false
	}
	if probe || changed {
		l.breaker.nextProbe = now.Add(max(l.breaker.policy.Probe, a.retryAfter))
	}
	if changed {
		if l.breaker.open {
			l.engine.logger().Warn("breaker opened: the destination is held and probed",
				"source", l.name.Source, "destination", l.name.Destination,
				"failures", l.breaker.failures, "probe", l.breaker.policy.Probe, "last_status", a.Status, "last_error", a.Error)
			l.waiting = true
			l.arm(l.breaker.nextProbe.Sub(now))
		} else {
			l.engine.logger().Info("breaker closed: the destination answers again",
				"source", l.name.Source, "destination", l.name.Destination)
			l.awaken()
		}
	}
	return held
}

// unprobe ends a probe that came to no answer.
func (l *lane) unprobe(probe bool) {
	if !probe {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breaker.probing = false
	l.awaken()
}

// conclude counts and logs a settle that is durable. The caller holds l.mu.
func (l *lane) conclude(s *settling) {
	d, a := s.Leased, s.Attempt
	text, status, tries := s.Reason, 0, d.Tries
	if a != nil {
		l.metrics.attemptDuration.Observe(a.Duration.Seconds())
		status, tries = a.Status, tries+1
		if text == "" {
			text = a.Error
		}
	}
	if s.Outcome == OutcomeDelivered {
		l.metrics.delivered.Inc()
		l.metrics.latency.Observe((d.Age + a.At.Sub(d.leasedAt) + a.Duration).Seconds())
		if !l.engine.logger().Enabled(context.Background(), slog.LevelDebug) {
			return
		}
	}
	logger := l.engine.logger().With("source", l.name.Source, "destination", l.name.Destination,
		"event_id", d.Event.ID, "task_id", d.Event.TaskID, "attempt", tries, "status", status)
	switch s.Outcome {
	case OutcomeDelivered:
		logger.Debug("delivered")
	case OutcomeRetry:
		l.metrics.retry.Inc()
		logger.Warn("attempt failed", "error", text, "retry_in", s.Delay)
	case OutcomeDead:
		if a != nil {
			l.metrics.dead.Inc()
			logger.Warn("attempt failed", "error", text)
		}
		l.engine.gaveUp(DeadLetter{
			EventID: d.Event.ID, Source: l.name.Source, TaskID: d.Event.TaskID, Destination: l.name.Destination,
			Attempts: tries, LastStatus: status, LastError: text, DeadAt: time.Now(),
		})
	}
}

// gaveUp tells of a delivery that has become a dead letter.
func (e *Engine) gaveUp(d DeadLetter) {
	s := e.settings.Load()
	s.Logger.Error("delivery given up: it is a dead letter now", "source", d.Source, "destination", d.Destination,
		"event_id", d.EventID, "task_id", d.TaskID, "attempts", d.Attempts, "status", d.LastStatus, "error", d.LastError)
	if s.OnDeadLetter != nil {
		s.OnDeadLetter(d)
	}
}
