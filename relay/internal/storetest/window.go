package storetest

import (
	"errors"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var windowTests = []test{
	{"ends", windowEnds},
	{"is not prolonged by a duplicate", windowNotProlonged},
	{"outlasts the event", windowOutlastsEvent},
	{"of a key that came again", windowOfNext},
}

// quick is a policy that keeps nothing for longer than it must.
func quick() relay.PurgePolicy {
	return relay.PurgePolicy{
		Retention: time.Hour, DeadLetterRetention: time.Hour,
		Windows: map[string]time.Duration{source: window}, DefaultWindow: window,
	}
}

func windowEnds(b *bench) {
	ev := b.accept("one", billing)
	b.Advance(window - slack)
	b.wantResult(b.put(repeated(ev), to(billing)...), relay.Duplicate, ev)
	b.Advance(2 * slack)
	next := repeated(ev)
	b.wantResult(b.put(next, to(billing)...), relay.Accepted, next)
	b.wantCounts(billing, 2, 0, 0, 0)
	b.wantLeased(b.lease(billing, 5), ev, next)
}

func windowNotProlonged(b *bench) {
	ev := b.accept("one", billing)
	for range 3 {
		b.Advance(window / 4)
		b.wantResult(b.put(repeated(ev), to(billing)...), relay.Duplicate, ev)
		b.wantResult(b.put(conflicting(ev, 1), to(billing)...), relay.Conflict, ev)
	}
	b.Advance(window/4 + slack)
	next := repeated(ev)
	b.wantResult(b.put(next, to(billing)...), relay.Accepted, next)
}

func windowOutlastsEvent(b *bench) {
	ev := b.accept("one", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.Advance(2 * time.Hour)
	b.purge(quick())
	if _, err := b.Store.Event(b.ctx(), ev.ID); !errors.Is(err, relay.ErrNotFound) {
		b.t.Fatalf("after its retention: %v", err)
	}
	b.Reopen()
	b.wantResult(b.put(repeated(ev), to(billing)...), relay.Duplicate, ev)
	b.wantResult(b.put(conflicting(ev, 1), to(billing)...), relay.Unkept, ev) // there is no event to keep it with
	b.wantResult(b.put(inDoubt(ev), to(billing)...), relay.Accepted, ev)
	b.wantCounts(billing, 0, 0, 0, 0)
	b.Advance(window)
	b.purge(quick())
	next := repeated(ev)
	b.wantResult(b.put(next, to(billing)...), relay.Accepted, next)
	if r := b.record(next); r.Duplicates != 0 || r.Conflicts != 0 || len(r.Variants) != 0 {
		b.t.Fatalf("the next event has what came for the first: %+v", r)
	}
}

// The record of a key that came again after its window is the later event's; deleting the first one's leaves it alone.
func windowOfNext(b *bench) {
	ev := b.accept("one", billing)
	b.Advance(window + slack)
	next := repeated(ev)
	b.wantResult(b.put(next, to(billing)...), relay.Accepted, next)
	b.settleAll(relay.OutcomeDelivered, b.lease(billing, 5)...)
	b.Advance(window / 2)
	b.purge(quick())
	b.wantResult(b.put(repeated(ev), to(billing)...), relay.Duplicate, next)
}
