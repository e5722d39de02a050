package storetest

import (
	"errors"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var leaseAtAcceptTests = []test{
	{"at once", leasedAtAccept},
	{"declined while paused", declinedPaused},
	{"declined behind one that is ready", amongTasks(declinedReady)},
	{"declined behind one of its batch", amongTasks(declinedBatch)},
	{"declined behind a retry that is due", amongTasks(declinedDue)},
	{"declined behind its task", declinedOrdered},
	{"taken over by another try", takenOver},
	{"taken over while paused", takenOverPaused},
}

// now asks for a lease at accept.
func now(destination string) relay.NewDelivery {
	return relay.NewDelivery{Destination: destination, LeaseFor: leaseFor}
}

func (b *bench) wantDeclined(deliveries ...relay.NewDelivery) *relay.Event {
	b.t.Helper()
	ev := newEvent("one")
	if op := b.put(ev, deliveries...); len(op.Leased) != 0 {
		b.t.Fatalf("leased %d at once", len(op.Leased))
	}
	b.wantState(ev, deliveries[0].Destination, relay.StatePending)
	return ev
}

func leasedAtAccept(b *bench) {
	ev := newEvent("one")
	op := b.put(ev, now(billing), now(search), relay.NewDelivery{Destination: "third"})
	if len(op.Leased) != 2 {
		b.t.Fatalf("leased %d, want 2", len(op.Leased))
	}
	for _, l := range op.Leased {
		if l.Event.ID != ev.ID || string(l.Event.Body) != string(ev.Body) || l.Tries != 0 || l.Used != 0 || l.Replay != 0 || l.Age > slack {
			b.t.Fatalf("leased %+v", l)
		}
		b.wantState(ev, l.Destination, relay.StateInFlight)
		b.wantCounts(l.Destination, 0, 1, 0, 0)
		b.wantLeased(b.lease(l.Destination, 5))
		b.settleAll(relay.OutcomeDelivered, l)
		b.wantCounts(l.Destination, 0, 0, 1, 0)
	}
	b.wantState(ev, "third", relay.StatePending)
	b.wantLeased(b.lease("third", 5), ev)
	// What is in flight is no reason to decline.
	for range 3 {
		if op := b.put(newEvent("one"), now(billing)); len(op.Leased) != 1 {
			b.t.Fatal("declined behind what is in flight")
		}
	}
	b.wantCounts(billing, 0, 3, 1, 0)
}

func declinedPaused(b *bench) {
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	ev := b.wantDeclined(now(billing))
	b.must(b.Store.Pause(b.ctx(), source, billing, false))
	b.wantLeased(b.lease(billing, 5), ev)
}

func declinedReady(b *bench) {
	older := b.accept("older", billing)
	ev := b.wantDeclined(now(billing))
	b.wantLeased(b.lease(billing, 5), older, ev)
	if op := b.put(newEvent("one"), now(billing)); len(op.Leased) != 1 {
		b.t.Fatal("declined, though nothing waits any more")
	}
}

func declinedBatch(b *bench) {
	one, two := newEvent("one"), newEvent("two")
	batch := &relay.Batch{Accepts: []*relay.Accept{
		{Event: one, Window: window, Deliveries: to(billing)},
		{Event: two, Window: window, Deliveries: []relay.NewDelivery{now(billing)}},
	}}
	b.apply(batch)
	if len(batch.Accepts[1].Leased) != 0 {
		b.t.Fatal("leased before the one that came first")
	}
	b.wantLeased(b.lease(billing, 5), one, two)
}

func declinedDue(b *bench) {
	retried := b.accept("older", billing)
	l := b.leaseOne(billing, retried)
	b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeRetry, Delay: time.Minute, Attempt: attempt(500)})
	op := b.put(newEvent("one"), now(billing)) // the retry is not due yet
	if len(op.Leased) != 1 {
		b.t.Fatal("declined behind a retry that is not due")
	}
	b.settleAll(relay.OutcomeDelivered, op.Leased...)
	b.Advance(time.Minute)
	ev := b.wantDeclined(now(billing))
	b.wantLeased(b.lease(billing, 1), retried)
	b.wantLeased(b.lease(billing, 1), ev)
}

func declinedOrdered(b *bench) {
	inOrder := relay.NewDelivery{Destination: billing, LeaseFor: leaseFor, Ordered: true}
	first := newEvent("one")
	op := b.put(first, inOrder)
	if len(op.Leased) != 1 {
		b.t.Fatal("declined, though it is the first of its task")
	}
	second := b.wantDeclined(inOrder)
	elsewhere := newEvent("two")
	if op := b.put(elsewhere, inOrder); len(op.Leased) != 1 {
		b.t.Fatal("declined behind another task")
	}
	b.settleAll(relay.OutcomeDelivered, op.Leased...)
	b.wantLeased(b.lease(billing, 5), second)
}

// wantLost checks that a lease cannot be settled any more.
func (b *bench) wantLost(l *relay.Leased) {
	b.t.Helper()
	if err := b.trySettle(relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered}); !errors.Is(err, relay.ErrLeaseLost) {
		b.t.Fatalf("a settle of what was given to another returned %v", err)
	}
}

// What an accept in doubt had leased is taken over by its next try, which nobody can settle by the old token.
func takenOver(b *bench) {
	ev := newEvent("one")
	put := func(again bool, deliveries ...relay.NewDelivery) *relay.Accept {
		b.t.Helper()
		batch := &relay.Batch{Accepts: []*relay.Accept{{Event: ev, Window: window, Deliveries: deliveries, Again: again}}}
		b.apply(batch)
		if op := batch.Accepts[0]; op.Result != relay.Accepted || op.FirstID != ev.ID {
			b.t.Fatalf("tried again it became %v of %s", op.Result, op.FirstID)
		}
		return batch.Accepts[0]
	}
	wanted := []relay.NewDelivery{now(billing), now(search), {Destination: "third"}, {Destination: "fourth", LeaseFor: leaseFor, Ordered: true}}
	first := put(false, wanted...)
	if len(first.Leased) != 3 {
		b.t.Fatalf("leased %d, want 3", len(first.Leased))
	}
	if op := put(false, wanted...); len(op.Leased) != 0 {
		b.t.Fatalf("without being told to, it took over %d", len(op.Leased))
	}
	held := map[string]*relay.Leased{}
	for _, l := range first.Leased {
		held[l.Destination] = l
	}
	b.settleAll(relay.OutcomeDelivered, held[search]) // by somebody who knew after all
	b.Advance(leaseFor / 2)
	second := put(true, wanted...)
	if b.VoidsLeases && len(second.Leased) == 0 {
		b.settleAll(relay.OutcomeDelivered, held[billing], held["fourth"]) // they belong to this process
		return
	}
	third := put(true, wanted...) // that one was in doubt too
	for _, op := range []*relay.Accept{second, third} {
		if len(op.Leased) != 2 {
			b.t.Fatalf("took over %d, want 2", len(op.Leased))
		}
		for _, l := range op.Leased {
			if l.Event.ID != ev.ID || l.Destination == search || l.Tries != 0 || l.Age < leaseFor/2 || l.Age > leaseFor/2+slack {
				b.t.Fatalf("took over %+v", l)
			}
			b.wantLost(held[l.Destination])
			held[l.Destination] = l
		}
	}
	b.Advance(leaseFor * 3 / 4)
	b.wantState(ev, billing, relay.StateInFlight) // for as long as a new lease
	b.wantLeased(b.lease("third", 5), ev)
	if op := put(true, wanted...); len(op.Leased) != 2 {
		b.t.Fatalf("took over %d, and left what was leased since, want 2", len(op.Leased))
	} else {
		for _, l := range op.Leased {
			held[l.Destination] = l
		}
	}

	// Who cannot have leases leaves it due for whoever can.
	if op := put(true, to(billing, search, "third", "fourth")...); len(op.Leased) != 0 {
		b.t.Fatalf("leased %d, want none", len(op.Leased))
	}
	for _, d := range []string{billing, "fourth"} {
		b.wantLost(held[d])
		b.wantCounts(d, 1, 0, 0, 0)
		l := b.leaseOne(d, ev)
		put(true, wanted...)
		b.settleAll(relay.OutcomeDelivered, l) // leased by a lease of its own, it is left alone
	}
}

// A destination that was paused meanwhile gets nothing.
func takenOverPaused(b *bench) {
	ev := newEvent("one")
	op := b.put(ev, now(billing))
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	batch := &relay.Batch{Accepts: []*relay.Accept{{Event: ev, Window: window, Deliveries: []relay.NewDelivery{now(billing)}, Again: true}}}
	if b.apply(batch); len(batch.Accepts[0].Leased) != 0 {
		b.t.Fatal("leased for a paused destination")
	}
	b.must(b.Store.Pause(b.ctx(), source, billing, false))
	if b.VoidsLeases {
		b.settleAll(relay.OutcomeDelivered, op.Leased...)
		return
	}
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
}
