package expect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	// maxInFlight is how many questions of a source may be under way.
	maxInFlight = 8
	// leaseFor covers a question, and the accept of its answer.
	leaseFor = askWithin + relay.MaxAckWithin + 30*time.Second
	// maxReason is how many bytes of a reason are kept, in which a provider's own words may be.
	maxReason = 300
)

// guarded makes a step of which a panic ends neither the process nor the line (12).
func (l *line) guarded(ctx context.Context) (wait time.Duration) {
	err := guard.Step(func() error {
		wait = l.step(ctx)
		return nil
	})
	if err != nil {
		l.params.Logger().Error("polling failed; trying again", "source", l.name, "error", err, "stack", guard.Stack(err))
		return lookEvery
	}
	return wait
}

// step begins a poll if one may begin, and returns how long nothing else may.
func (l *line) step(ctx context.Context) time.Duration {
	due := l.due()
	if due != 0 {
		return cmp.Or(max(due, 0), lookEvery)
	}
	l.mu.Lock()
	busy, every := l.inFlight >= maxInFlight, spacing(l.again)
	l.mu.Unlock()
	if busy {
		return lookEvery // or until one of them ends
	}
	start := time.Now()
	leased, next, err := l.store.LeaseTasks(ctx, &relay.TaskLease{Source: l.name, Max: 1, For: leaseFor, Every: every})
	l.params.Meter.ObserveStore("lease_tasks", start, err)
	if err != nil {
		return lookEvery // which the store's health shows
	}
	for _, t := range leased {
		l.begin(ctx, t)
	}
	if next < 0 {
		return lookEvery
	}
	return next
}

// due returns how long until something of the source is due, by what memory knows; negative if nothing is expected.
func (l *line) due() time.Duration {
	for _, c := range l.store.TaskCounts() {
		if c.Source == l.name {
			return c.Due
		}
	}
	return -1
}

func (l *line) begin(ctx context.Context, t *relay.LeasedTask) {
	l.mu.Lock()
	l.inFlight++
	l.mu.Unlock()
	l.polls.Go(func() {
		if err := guard.Step(func() error { l.poll(ctx, t); return nil }); err != nil {
			l.params.Logger().Error("poll failed; it is tried again", "source", l.name, "task_id", t.TaskID, "error", err, "stack", guard.Stack(err))
		}
		l.mu.Lock()
		l.inFlight--
		l.mu.Unlock()
		l.rouse()
	})
}

// poll asks for the details of a task once, and does what they say.
func (l *line) poll(ctx context.Context, t *relay.LeasedTask) {
	src := l.source.Load()
	v, known := l.verdict(ctx, src, t)
	if ctx.Err() != nil {
		return // the question was cut short
	}
	if !known {
		l.giveUp(ctx, t, v.Reason)
		return
	}
	l.note(v)
	if v.Kind == relay.VerdictSuccess || v.Kind == relay.VerdictFailed {
		done, err := l.recover(ctx, src, t, v)
		if done {
			return
		}
		v = relay.Verdict{Kind: relay.VerdictAgain, Reason: "the result cannot be accepted: " + err.Error()}
	}
	if t.Age >= src.Recover.For {
		l.giveUp(ctx, t, fmt.Sprintf("no result after %v: %s", t.Age.Round(time.Second), cmp.Or(v.Reason, "still pending")))
		return
	}
	delay := max(time.Second, min(pause(t.Polls, v.Kind, src.Recover.Every), src.Recover.For-t.Age))
	l.settle(ctx, &relay.TaskSettle{Reason: v.Reason, Delay: delay}, t)
}

// verdict asks and judges. known is false if there are no details to ask for.
func (l *line) verdict(ctx context.Context, src *relay.Source, t *relay.LeasedTask) (v relay.Verdict, known bool) {
	reader, ok := src.Provider.(relay.DetailsReader)
	if !ok {
		return relay.Verdict{Reason: "the source's provider has no details"}, false
	}
	target, api, ok := address(reader, src.Recover, &t.ExpectedTask)
	if !ok {
		return relay.Verdict{Reason: fmt.Sprintf("the provider has no details of the API %q", t.API)}, false
	}
	status, body, err := ask(ctx, l.client, target, postBody(reader, target, t.TaskID), src.Recover.Header, l.params.Version, src.MaxBody)
	if err != nil {
		return relay.Verdict{Kind: relay.VerdictAgain, Reason: err.Error()}, true
	}
	v = reader.Judge(api, t.TaskID, status, body)
	v.Reason = bounded(v.Reason)
	return v, true
}

// note keeps in mind how the provider takes questions, and logs a refusal until it changes.
func (l *line) note(v relay.Verdict) {
	refusal := ""
	if v.Kind == relay.VerdictRefused {
		refusal = cmp.Or(v.Reason, "refused")
	}
	l.mu.Lock()
	if v.Kind == relay.VerdictAgain {
		l.again++
	} else {
		l.again = 0
	}
	news := refusal != l.refusal
	l.refusal = refusal
	l.mu.Unlock()
	if news && refusal != "" {
		l.params.Logger().Warn("details of tasks are refused; they are asked for less often", "source", l.name, "reason", refusal)
	}
}

// recover accepts the callback that the details amount to. done is false, with the reason, if that is to be tried again.
func (l *line) recover(ctx context.Context, src *relay.Source, t *relay.LeasedTask, v relay.Verdict) (done bool, err error) {
	accepted, err := l.params.Accept(ctx, src, t.TaskID, v.Body)
	log := l.params.Logger().With("source", l.name, "task_id", t.TaskID)
	switch {
	case err != nil:
		log.Warn("result of a task cannot be accepted; trying again", "error", err)
		return false, err
	case accepted.Spooled:
		log.Info("result of a task recovered; it waits in the spool", "event_id", accepted.EventID)
	case accepted.Result == relay.Accepted:
		log.Info("result of a task recovered", "event_id", accepted.EventID, "polls", t.Polls)
	default:
		return true, nil // its callback has come meanwhile
	}
	result := meter.Recovered
	if v.Kind == relay.VerdictFailed {
		result = meter.RecoveredFailure
	}
	l.params.Meter.CountRecovery(l.name, result)
	return true, nil
}

// bounded returns as much of a reason as is kept.
func bounded(reason string) string {
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
}

// giveUp ends the expectation of a task.
func (l *line) giveUp(ctx context.Context, t *relay.LeasedTask, reason string) {
	op := &relay.TaskSettle{Reason: reason, GivenUp: true}
	if l.settle(ctx, op, t) {
		l.params.Meter.CountRecovery(l.name, meter.GivenUp)
		l.params.GaveUp(l.name)
		l.params.Logger().Error("task given up: neither a callback nor the details have brought a result",
			"source", l.name, "task_id", t.TaskID, "api", t.API, "polls", t.Polls, "reason", op.Reason)
	}
}

// settle ends the lease of a task, with as much of the reason as is kept, and reports whether it has: not if the task has ended meanwhile, nor where the store is
// away, and the task is polled again when the lease has ended.
func (l *line) settle(ctx context.Context, op *relay.TaskSettle, t *relay.LeasedTask) bool {
	op.Source, op.TaskID, op.Token, op.Reason = t.Source, t.TaskID, t.Token, bounded(op.Reason)
	start := time.Now()
	err := l.store.SettleTask(ctx, op)
	if errors.Is(err, relay.ErrLeaseLost) {
		l.params.Meter.ObserveStore("settle_task", start, nil)
		return false
	}
	l.params.Meter.ObserveStore("settle_task", start, err)
	return err == nil
}
