package alert

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// quiet remembers when a source was called last.
type quiet struct {
	last   time.Time // zero: never, as far as is known
	looked time.Time // at the store, which knows what other nodes and earlier processes accepted
}

// silent returns which sources were called before and then no longer. It asks the store only of a source that this node has
// not heard of for so long. The times there are of other gateways' clocks; a wrong one makes an alert early or late.
func (w *Watcher) silent(ctx context.Context, store relay.Store, s *relay.Settings, now time.Time) (facts []Fact) {
	after := s.Alerts.SilentAfter
	if after <= 0 || !slices.Contains(s.Alerts.Conditions, relay.ConditionSilent) {
		return nil
	}
	for name := range s.Sources {
		if name == relay.AlertSource {
			continue
		}
		q := w.quiet[name]
		if q == nil {
			q = new(quiet)
			w.quiet[name] = q
		}
		if called := w.tally.of(name, now, s.Alerts.Every).called; called.After(q.last) {
			q.last = called
		}
		overdue := q.last.IsZero() || now.Sub(q.last) >= after
		if overdue && store != nil && now.Sub(q.looked) >= min(max(after/10, lookEvery), time.Minute) {
			q.looked = now
			if at := lastCallback(ctx, store, name); at.After(q.last) && !at.After(now) {
				q.last = at
			}
		}
		if !q.last.IsZero() && now.Sub(q.last) >= after {
			facts = append(facts, Fact{Subject{relay.ConditionSilent, name, ""}, Detail{
				Reason: fmt.Sprintf("no callback has come since %s; check the callback URL that its tasks are submitted with",
					q.last.UTC().Format(time.RFC3339)),
			}})
		}
	}
	return facts
}

// lastCallback returns when the newest callback of a source came that was stored; zero if none is found.
func lastCallback(ctx context.Context, store relay.Store, source string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	at, err := relay.LastCallback(ctx, store, source)
	if err != nil {
		return time.Time{} // it is asked again
	}
	return at
}
