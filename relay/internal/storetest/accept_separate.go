package storetest

import (
	"bytes"
	"errors"
	"maps"
	"sync"

	"github.com/callbackrelay/caddy-relay/relay"
)

func separately(ev *relay.Event, deliveries ...relay.NewDelivery) *relay.Accept {
	return &relay.Accept{Event: ev, Window: window, Separate: true, Deliveries: deliveries}
}

// putSeparate applies one accept that is to become an event of its own.
func (b *bench) putSeparate(ev *relay.Event, deliveries ...relay.NewDelivery) *relay.Accept {
	b.t.Helper()
	op := separately(ev, deliveries...)
	b.apply(&relay.Batch{Accepts: []*relay.Accept{op}})
	return op
}

// wantBeside checks an accept that became an event beside the first one of its key.
func (b *bench) wantBeside(op *relay.Accept, first *relay.Event) {
	b.t.Helper()
	b.wantResult(op, relay.Accepted, op.Event)
	if op.ConflictWith != first.ID {
		b.t.Fatalf("accepted beside %q, want %q", op.ConflictWith, first.ID)
	}
	if op.Event.Headers[relay.ConflictHeader] != "" {
		b.t.Fatal("the caller's own headers were changed")
	}
}

// wantSeparated checks what is leased, or read, of an event beside the first one of its key.
func (b *bench) wantSeparated(got, ev, first *relay.Event) {
	b.t.Helper()
	want := ev.Separated(first.ID)
	if got.ID != ev.ID || !maps.Equal(got.Headers, want.Headers) || !bytes.Equal(got.Body, ev.Body) {
		b.t.Fatalf("read %+v\nwant %+v", got, want)
	}
}

func acceptSeparate(b *bench) {
	ev := newEvent("one")
	op := b.putSeparate(ev, to(billing)...)
	b.wantResult(op, relay.Accepted, ev)
	if op.ConflictWith != "" {
		b.t.Fatalf("the first one conflicts with %s", op.ConflictWith)
	}
	second, third := conflicting(ev, 1), conflicting(ev, 2)
	third.Headers = nil
	b.wantBeside(b.putSeparate(second, to(billing)...), ev)
	for range 2 { // of either, each by itself
		b.wantResult(b.putSeparate(repeated(ev), to(billing)...), relay.Duplicate, ev)
		b.wantResult(b.putSeparate(repeated(second), to(billing)...), relay.Duplicate, second)
	}
	b.settleAll(relay.OutcomeDelivered, b.lease(billing, 2)...)
	op = b.putSeparate(third, now(billing))
	b.wantBeside(op, ev)
	b.wantLeased(op.Leased, third)
	b.wantSeparated(op.Leased[0].Event, third, ev)
	b.settleAll(relay.OutcomeRetry, op.Leased...)
	b.Reopen()
	leased := b.leaseOne(billing, third)
	b.wantSeparated(leased.Event, third, ev)
	for i, e := range []*relay.Event{ev, second, third} {
		b.wantResult(b.putSeparate(repeated(e), to(billing)...), relay.Duplicate, e)
		r := b.record(e)
		if want := [][2]int{{3, 2}, {3, 0}, {1, 0}}[i]; r.Duplicates != want[0] || r.Conflicts != want[1] || len(r.Variants) != 0 {
			b.t.Fatalf("%d duplicates, %d conflicts, %d variants; want %v and none", r.Duplicates, r.Conflicts, len(r.Variants), want)
		}
		if i > 0 {
			b.wantSeparated(&r.Event, e, ev)
			if r.Key != e.SeparateKey() {
				b.t.Fatalf("the key is %x", r.Key)
			}
		}
	}
	b.wantCounts(billing, 0, 1, 2, 0)

	one, two := newEvent("two"), newEvent("three")
	batch := &relay.Batch{}
	conflict := conflicting(one, 1)
	for _, e := range []*relay.Event{one, conflict, repeated(conflict), two, repeated(one), inDoubt(conflict)} {
		batch.Accepts = append(batch.Accepts, separately(e, to(search)...))
	}
	b.apply(batch)
	for i, want := range []struct {
		result relay.Result
		first  *relay.Event
	}{{relay.Accepted, one}, {relay.Accepted, conflict}, {relay.Duplicate, conflict}, {relay.Accepted, two}, {relay.Duplicate, one}, {relay.Accepted, conflict}} {
		b.wantResult(batch.Accepts[i], want.result, want.first)
	}
	b.wantLeased(b.lease(search, 10), one, conflict, two)
}

// The order of a task, and its leases, hold for all of its events.
func acceptSeparateInDoubt(b *bench) {
	ev := newEvent("one")
	b.putSeparate(ev, ordered(billing)...)
	second := conflicting(ev, 1)
	b.wantBeside(b.putSeparate(second, ordered(billing)...), ev)
	again := separately(inDoubt(second), ordered(billing)...)
	again.Again = true
	b.apply(&relay.Batch{Accepts: []*relay.Accept{again}})
	b.wantResult(again, relay.Accepted, second)
	if again.Event.Seq != second.Seq || second.Seq <= ev.Seq {
		b.t.Fatalf("sequence %d, was %d after %d", again.Event.Seq, second.Seq, ev.Seq)
	}
	first := b.leaseOne(billing, ev)
	b.wantLeased(b.lease(billing, 5))
	b.settleAll(relay.OutcomeDelivered, first)
	b.wantSeparated(b.leaseOne(billing, second).Event, second, ev)
	again = separately(inDoubt(second), relay.NewDelivery{Destination: billing, LeaseFor: leaseFor, Ordered: true})
	b.apply(&relay.Batch{Accepts: []*relay.Accept{again}})
	b.wantResult(again, relay.Accepted, second)
	if len(again.Leased) > 0 {
		b.t.Fatal("leased twice")
	}
	b.wantCounts(billing, 0, 1, 1, 0)

	third := conflicting(ev, 2)
	b.wantBeside(b.putSeparate(third, now(search)), ev)
	again = separately(inDoubt(third), now(search))
	again.Again = true
	b.apply(&relay.Batch{Accepts: []*relay.Accept{again}})
	b.wantResult(again, relay.Accepted, third)
	for _, l := range again.Leased { // not by a store whose leases belong to the process
		b.wantSeparated(l.Event, third, ev)
	}
	b.wantCounts(search, 0, 1, 0, 0)
}

// A repetition of the second is its duplicate for its own window, whatever has become of the first.
func acceptSeparateLate(b *bench) {
	ev := newEvent("one")
	b.putSeparate(ev)
	b.Advance(window / 2)
	second := conflicting(ev, 1)
	b.wantBeside(b.putSeparate(second), ev)
	b.purge(quick())
	if _, err := b.Store.Event(b.ctx(), ev.ID); !errors.Is(err, relay.ErrNotFound) {
		b.t.Fatalf("after its retention: %v", err)
	}
	third := conflicting(ev, 2)
	b.wantBeside(b.putSeparate(third), ev) // its key outlives it
	b.Advance(window/2 + slack)
	b.purge(quick())
	b.Reopen()
	b.wantResult(b.putSeparate(repeated(second)), relay.Duplicate, second)
	next := repeated(ev)
	b.wantResult(b.putSeparate(next), relay.Accepted, next)
	b.wantResult(b.putSeparate(repeated(third)), relay.Duplicate, third)
}

// One captured signature, which does not cover the body, makes no event beside the one that it was made for.
func acceptSeparateReplayed(b *bench) {
	ev := newEvent("one")
	ev.Headers[relay.ProofHeader] = "a"
	b.putSeparate(ev, to(billing)...)
	signed := func(n int, proof string) *relay.Event {
		c := conflicting(ev, n)
		c.Headers[relay.ProofHeader] = proof
		return c
	}
	b.wantResult(b.putSeparate(signed(1, "a"), to(billing)...), relay.Replayed, ev)
	second := signed(2, "b")
	b.wantBeside(b.putSeparate(second, to(billing)...), ev)
	b.wantResult(b.putSeparate(signed(3, "b"), to(billing)...), relay.Replayed, ev)
	b.wantResult(b.putSeparate(signed(2, "c"), to(billing)...), relay.Duplicate, second) // signed anew
	b.Advance(window / 2)
	b.purge(quick())
	b.Reopen()
	b.wantResult(b.putSeparate(signed(3, "b"), to(billing)...), relay.Replayed, ev)
	b.wantCounts(billing, 2, 0, 0, 0)
}

func acceptSeparateConcurrently(b *bench) {
	const callers, keys = 8, 10
	stores := []relay.Store{b.Store}
	if b.Another != nil {
		stores = append(stores, b.Another())
	}
	var firsts [keys]*relay.Event
	for k := range firsts {
		firsts[k] = newEvent("one")
	}
	ops := make([][]*relay.Accept, callers)
	var wg sync.WaitGroup
	for c := range callers {
		for _, first := range firsts {
			ops[c] = append(ops[c], separately(conflicting(first, c%2), to(billing)...))
		}
		wg.Go(func() { stores[c%len(stores)].Apply(b.ctx(), &relay.Batch{Accepts: ops[c]}) })
	}
	wg.Wait()
	for k := range keys {
		accepted, beside := map[string]string{}, 0
		for c := range callers {
			op := ops[c][k]
			b.must(op.Err)
			if op.Result == relay.Accepted {
				accepted[op.FirstID] = op.ConflictWith
			} else if op.Result != relay.Duplicate || op.FirstID != ops[c%2][k].FirstID {
				b.t.Fatalf("result %d of %s", op.Result, op.FirstID)
			}
		}
		for _, first := range accepted {
			if _, ok := accepted[first]; ok {
				beside++
			}
		}
		if len(accepted) != 2 || beside != 1 {
			b.t.Fatalf("accepted %v", accepted)
		}
	}
	b.wantCounts(billing, 2*keys, 0, 0, 0)
}
