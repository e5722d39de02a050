package storetest

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var discardTests = []test{
	{"dead letters alone", discardDead},
	{"by the time they were given up", discardSpan},
	{"in steps", discardSteps},
	{"orphaned deliveries", discardOrphaned},
	{"orphaned deliveries in steps", discardOrphanedSteps},
	{"orphans are of one destination", discardOrphanedBoth},
	{"a lease that has expired is none", discardLeaseExpired},
	{"each once, whoever asks", discardConcurrently},
}

// discard discards all of a selection.
func (b *bench) discard(s relay.Selection) int {
	b.t.Helper()
	total, cursor := 0, ""
	for range mostPages {
		n, next, err := b.Store.Discard(b.ctx(), s, cursor)
		b.must(err)
		if n > relay.MaxTouched {
			b.t.Fatalf("one step discarded %d", n)
		}
		total, cursor = total+n, next
		if next == "" {
			return total
		}
	}
	b.t.Fatal("Discard does not end")
	return 0
}

func discardDead(b *bench) {
	ev := b.accept("one", billing, search)
	b.settleAll(relay.OutcomeDead, b.leaseOne(billing, ev))
	b.settleAll(relay.OutcomeDead, b.leaseOne(search, ev))
	pending := b.accept("two", billing)
	if n := b.discard(relay.Selection{Source: source, Destination: billing}); n != 1 {
		b.t.Fatalf("discarded %d", n)
	}
	b.wantCounts(billing, 1, 0, 0, 0)
	b.wantCounts(search, 0, 0, 0, 1)
	if r := b.record(ev); len(r.Deliveries) != 1 || r.Deliveries[0].Destination != search || r.State() != relay.StateDead {
		b.t.Fatalf("read %+v", r)
	}
	if n := b.discard(relay.Selection{}); n != 1 {
		b.t.Fatalf("discarded %d", n)
	}
	if r := b.record(ev); len(r.Deliveries) != 0 || r.State() != relay.StateDelivered {
		b.t.Fatalf("read %+v", r)
	}
	if n := b.redrive(relay.Selection{}); n != 0 {
		b.t.Fatalf("redrove %d", n)
	}
	b.wantLeased(b.lease(billing, 5), pending)
	// The event is still there: it can be sent again, as to a new destination.
	b.replay(ev, 0, 1, 0, billing)
	if l := b.leaseOne(billing, ev); l.Tries != 0 {
		b.t.Fatalf("leased %+v", l)
	}
	b.Reopen()
	b.wantCounts(search, 0, 0, 0, 0)
}

func discardSpan(b *bench) {
	events, at := b.deaths()
	if n := b.discard(relay.Selection{Since: at[1], Until: at[2]}); n != 1 {
		b.t.Fatalf("discarded %d", n)
	}
	b.wantState(events[0], billing, relay.StateDead)
	b.wantState(events[2], billing, relay.StateDead)
	b.wantCounts(billing, 0, 0, 0, 2)
	if n := b.discard(relay.Selection{Since: at[2]}); n != 1 {
		b.t.Fatalf("discarded %d", n)
	}
	if n := b.discard(relay.Selection{Until: at[1]}); n != 1 {
		b.t.Fatalf("discarded %d", n)
	}
}

func discardSteps(b *bench) {
	const n = relay.MaxTouched + 50
	b.killMany(n)
	first, _, err := b.Store.Discard(b.ctx(), relay.Selection{Source: source}, "")
	b.must(err)
	if first != relay.MaxTouched {
		b.t.Fatalf("the first step discarded %d", first)
	}
	b.wantCounts(billing, 0, 0, 0, 50)
	if second := b.discard(relay.Selection{Source: source}); second != 50 {
		b.t.Fatalf("then %d", second)
	}
	b.wantCounts(billing, 0, 0, 0, 0)
	if letters := b.letters(relay.Selection{}); len(letters) != 0 {
		b.t.Fatalf("%d are still listed", len(letters))
	}
}

func discardOrphaned(b *bench) {
	b.kill("dead", billing)
	delivered := b.accept("delivered", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, delivered))
	retried := b.accept("retried", billing, search)
	b.retryAfter(b.leaseOne(billing, retried), time.Hour)
	flying := b.accept("flying", billing)
	l := b.leaseOne(billing, flying)
	b.acceptNew("ready", to(billing)...)
	b.acceptNew("ordered", ordered(billing)...)
	b.acceptNew("ordered", ordered(billing)...)
	b.wantCounts(billing, 4, 1, 1, 1)
	if n := b.discard(relay.Selection{Source: source, Destination: billing, Orphaned: true}); n != 5 {
		b.t.Fatalf("discarded %d, want 5", n)
	}
	b.wantCounts(billing, 0, 1, 1, 0)
	b.wantCounts(search, 1, 0, 0, 0)
	b.wantState(delivered, billing, relay.StateDelivered)
	b.settleAll(relay.OutcomeDelivered, l)
	b.wantCounts(billing, 0, 0, 2, 0)
	b.Advance(2 * time.Hour)
	if op := b.ask(relay.Lease{Destination: billing, Max: 5}); len(op.Leased) != 0 || op.Next >= 0 {
		b.t.Fatalf("leased %d, next %v", len(op.Leased), op.Next)
	}
	b.Reopen()
	b.wantCounts(billing, 0, 0, 2, 0)
	b.wantLeased(b.lease(billing, 5))
	// The name may come back.
	if op := b.put(newEvent("later"), now(billing)); len(op.Leased) != 1 {
		b.t.Fatal("declined, though nothing waits")
	}
}

func discardOrphanedSteps(b *bench) {
	const n = relay.MaxTouched + 50
	b.acceptMany(n, to(billing)...)
	dead := b.lease(billing, 10)
	b.settleAll(relay.OutcomeDead, dead...)
	sel := relay.Selection{Source: source, Destination: billing, Orphaned: true}
	first, _, err := b.Store.Discard(b.ctx(), sel, "")
	b.must(err)
	if first != relay.MaxTouched {
		b.t.Fatalf("the first step discarded %d", first)
	}
	if second := b.discard(sel); second != 50 {
		b.t.Fatalf("then %d", second)
	}
	b.wantCounts(billing, 0, 0, 0, 0)
}

// Without both names nothing that waits is discarded, whatever else a store says to it.
func discardOrphanedBoth(b *bench) {
	b.accept("one", billing)
	for _, sel := range []relay.Selection{{Orphaned: true}, {Source: source, Orphaned: true}, {Destination: billing, Orphaned: true}} {
		if n, _, err := b.Store.Discard(b.ctx(), sel, ""); err == nil && n != 0 {
			b.t.Fatalf("discarded %d by %+v", n, sel)
		}
	}
	b.wantCounts(billing, 1, 0, 0, 0)
	if n := b.discard(relay.Selection{Source: source, Destination: "nobody", Orphaned: true}); n != 0 {
		b.t.Fatalf("discarded %d of nobody's", n)
	}
}

// Nobody comes for a lease of a destination that is in no config, so that discarding must take it once its holder is gone.
func discardLeaseExpired(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.Advance(leaseFor)
	if n := b.discard(relay.Selection{Source: source, Destination: billing, Orphaned: true}); n != 1 {
		b.t.Fatalf("discarded %d, want 1", n)
	}
	b.wantCounts(billing, 0, 0, 0, 0)
	op := relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: attempt(200)}
	if err := b.trySettle(op); err == nil {
		b.t.Fatal("a settle of what was discarded was taken")
	}
	b.wantCounts(billing, 0, 0, 0, 0)
}

func discardConcurrently(b *bench) {
	const n = 200
	b.killMany(n)
	if total := b.together(func(s relay.Store) (int, error) {
		n, _, err := s.Discard(b.ctx(), relay.Selection{Source: source}, "")
		return n, err
	}); total != n {
		b.t.Fatalf("discarded %d, want %d", total, n)
	}
	b.wantCounts(billing, 0, 0, 0, 0)
}
