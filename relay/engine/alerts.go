package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/alert"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
)

// conditions returns what alerts are about and the engine sees. It answers from memory.
func (e *Engine) conditions(s *relay.Settings) (facts []alert.Fact) {
	fact := func(c relay.Condition, source, destination, reason string, count int64) {
		facts = append(facts, alert.Fact{
			Subject: alert.Subject{Condition: c, Source: source, Destination: destination},
			Detail:  alert.Detail{Reason: reason, Count: count},
		})
	}
	if spool, _, _, _ := e.spooling.Stat(); spool.Events+spool.Stuck > 0 {
		n := int64(spool.Events + spool.Stuck)
		fact(relay.ConditionSpool, "", "", fmt.Sprintf("callbacks waiting in the spool of this gateway: %d, of which the store refuses: %d", n, spool.Stuck), n)
	}
	store, err := e.Store()
	switch {
	case err != nil:
		fact(relay.ConditionStore, "", "", "the store is not open", 0)
		return facts
	case !e.sweeper.Healthy() || !e.committers.Healthy():
		fact(relay.ConditionStore, "", "", "the store is unhealthy; the log and `caddy relay status` have the reason", 0)
	}
	for name, c := range e.taskCounts() {
		if late, lost := c.Overdue, e.alerts.GivenUp(name, s.Alerts.Every); late+lost > 0 {
			fact(relay.ConditionOverdue, name, "",
				fmt.Sprintf("expected tasks without a callback in time: %d, given up without a result: %d", late, lost), late+lost)
		}
	}
	for _, c := range store.Counts() {
		if s.Destination(c.Source, c.Destination) == nil {
			continue // orphaned: an operator has taken it out
		}
		if c.Dead > 0 {
			fact(relay.ConditionDeadLetter, c.Source, c.Destination, fmt.Sprintf("dead letters: %d", c.Dead), c.Dead)
		}
		if l := e.lanes.Get(relay.DestinationName{Source: c.Source, Destination: c.Destination}); l != nil {
			if b := l.Breaker(); b.Open {
				fact(relay.ConditionBreakerOpen, c.Source, c.Destination,
					fmt.Sprintf("held and probed after consecutive failures: %d", b.Failures), int64(b.Failures))
			}
		}
	}
	return facts
}

// raise accepts an alert as callbacks are accepted.
func (e *Engine) raise(ctx context.Context, src *relay.Source, ev *relay.Event) (alert.Stored, error) {
	start := time.Now()
	ev.ID = intake.NewID(start)
	outcome, err := e.door.Accept(ctx, src, ev, start)
	if err != nil {
		return alert.Stored{}, err
	}
	e.meter.Source(src.Name).Count(outcome.Name())
	return alert.Stored{ID: outcome.EventID, Duplicate: outcome.Result != relay.Accepted, Spooled: outcome.Spooled}, nil
}
