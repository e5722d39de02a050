package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/callbackrelay/caddy-relay/relay"
)

var acceptTests = []test{
	{"new", acceptNew},
	{"no destination wants it", acceptUnmatched},
	{"duplicate", acceptDuplicate},
	{"conflict", acceptConflict},
	{"more conflicts than are kept", acceptConflicts},
	{"a captured signature", acceptReplayed},
	{"conflicts as events", acceptSeparate},
	{"conflicts as events, in doubt", acceptSeparateInDoubt},
	{"conflicts as events, of which the first is gone", acceptSeparateLate},
	{"conflicts as events, with a captured signature", acceptSeparateReplayed},
	{"conflicts as events, from many goroutines", acceptSeparateConcurrently},
	{"same key within one batch", acceptBatch},
	{"same key of another source", acceptSources},
	{"in doubt", acceptInDoubt},
	{"in doubt past the window", acceptInDoubtLate},
	{"in doubt, when its key is another event's", acceptInDoubtOvertaken},
	{"given up by its caller", acceptGivenUp},
	{"large bodies", acceptLarge},
	{"as many as one step takes", acceptMost},
	{"one key from many goroutines", acceptConcurrently},
}

func acceptNew(b *bench) {
	ev := newEvent("one")
	op := b.put(ev, to(billing, search)...)
	b.wantResult(op, relay.Accepted, ev)
	if len(op.Leased) != 0 {
		b.t.Fatal("leased, though nobody asked for it")
	}
	if ev.Seq <= 0 {
		b.t.Fatalf("sequence %d", ev.Seq)
	}
	r := b.record(ev)
	if r.ID != ev.ID || r.Source != source || r.TaskID != "one" || r.Stage != ev.Stage || r.Code != ev.Code || r.Key != ev.Key ||
		r.Origin != ev.Origin || !r.ReceivedAt.Equal(ev.ReceivedAt) || !maps.Equal(r.Headers, ev.Headers) || !bytes.Equal(r.Body, ev.Body) {
		b.t.Fatalf("read %+v\nwant %+v", r.Event, *ev)
	}
	if r.Duplicates != 0 || r.Conflicts != 0 || len(r.Variants) != 0 || len(r.Deliveries) != 2 || r.State() != relay.StatePending {
		b.t.Fatalf("read %+v", r)
	}
	for _, d := range []string{billing, search} {
		if got := b.delivery(ev, d); got.State != relay.StatePending || got.Tries != 0 || got.Replay != 0 || got.NextAttempt != 0 || len(got.Attempts) != 0 {
			b.t.Fatalf("read %+v", got)
		}
		b.wantCounts(d, 1, 0, 0, 0)
	}
	for _, id := range []string{newEvent("two").ID, "no id", ""} {
		_, err := b.Store.Event(b.ctx(), id)
		b.wantNotFound(err, fmt.Sprintf("event %q", id))
	}
}

func acceptUnmatched(b *bench) {
	ev := newEvent("one")
	b.wantResult(b.put(ev), relay.Accepted, ev)
	if r := b.record(ev); len(r.Deliveries) != 0 || r.State() != relay.StateDelivered {
		b.t.Fatalf("read %+v", r)
	}
	b.wantResult(b.put(repeated(ev)), relay.Duplicate, ev)
}

func acceptDuplicate(b *bench) {
	ev := b.accept("one", billing)
	for range 3 {
		op := b.put(repeated(ev), relay.NewDelivery{Destination: billing, LeaseFor: leaseFor}, relay.NewDelivery{Destination: search})
		b.wantResult(op, relay.Duplicate, ev)
		if len(op.Leased) != 0 {
			b.t.Fatal("a duplicate was leased")
		}
	}
	if r := b.record(ev); r.Duplicates != 3 || r.Conflicts != 0 || len(r.Deliveries) != 1 || !bytes.Equal(r.Body, ev.Body) {
		b.t.Fatalf("read %+v", r)
	}
	b.wantCounts(billing, 1, 0, 0, 0)
	b.wantCounts(search, 0, 0, 0, 0)
	// Its state is no matter.
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.wantResult(b.put(repeated(ev), to(billing)...), relay.Duplicate, ev)
	b.wantCounts(billing, 0, 0, 1, 0)
}

func acceptConflict(b *bench) {
	ev := b.accept("one", billing)
	other := conflicting(ev, 1)
	b.wantResult(b.put(other, to(billing, search)...), relay.Conflict, ev)
	b.wantResult(b.put(repeated(ev), to(billing)...), relay.Duplicate, ev)
	r := b.record(ev)
	if r.Duplicates != 1 || r.Conflicts != 1 || len(r.Deliveries) != 1 || len(r.Variants) != 1 || !bytes.Equal(r.Body, ev.Body) {
		b.t.Fatalf("read %+v", r)
	}
	v := r.Variants[0]
	if v.N != 1 || !bytes.Equal(v.Body, other.Body) || !maps.Equal(v.Headers, other.Headers) || !v.ReceivedAt.Equal(other.ReceivedAt) {
		b.t.Fatalf("the variant reads %+v", v)
	}
	b.wantCounts(billing, 1, 0, 0, 0)
	b.wantCounts(search, 0, 0, 0, 0)
}

func acceptConflicts(b *bench) {
	ev := b.accept("one", billing)
	const kinds = relay.MaxVariants + 2
	for n := range kinds {
		want := relay.Conflict
		if n >= relay.MaxVariants {
			want = relay.Unkept
		}
		b.wantResult(b.put(conflicting(ev, n), to(billing)...), want, ev)
		b.wantResult(b.put(conflicting(ev, n), to(billing)...), want, ev) // kept once
	}
	r := b.record(ev)
	if r.Conflicts != 2*relay.MaxVariants || len(r.Variants) != relay.MaxVariants {
		b.t.Fatalf("%d conflicts, %d variants; want %d and %d", r.Conflicts, len(r.Variants), 2*relay.MaxVariants, relay.MaxVariants)
	}
	for i, v := range r.Variants {
		if v.N != i+1 || !bytes.Equal(v.Body, conflicting(ev, i).Body) {
			b.t.Fatalf("variant %d reads %+v", i+1, v)
		}
	}
}

// One captured signature, which does not cover the body, makes one variant at most.
func acceptReplayed(b *bench) {
	ev := b.accept("one", billing)
	signed := func(n int, proof string) *relay.Event {
		c := conflicting(ev, n)
		c.Headers[relay.ProofHeader] = proof
		return c
	}
	b.wantResult(b.put(signed(1, "a"), to(billing)...), relay.Conflict, ev)
	b.wantResult(b.put(signed(2, "a"), to(billing)...), relay.Replayed, ev)
	b.wantResult(b.put(signed(1, "a"), to(billing)...), relay.Conflict, ev) // the very same
	b.wantResult(b.put(signed(3, "b"), to(billing)...), relay.Conflict, ev)
	b.wantResult(b.put(conflicting(ev, 4), to(billing)...), relay.Conflict, ev)
	if r := b.record(ev); r.Conflicts != 4 || len(r.Variants) != 3 {
		b.t.Fatalf("%d conflicts, %d variants; want 4 and 3", r.Conflicts, len(r.Variants))
	}
}

func acceptBatch(b *bench) {
	one, two := newEvent("one"), newEvent("two")
	batch := &relay.Batch{}
	for _, ev := range []*relay.Event{one, repeated(one), two, conflicting(one, 1), conflicting(one, 1), conflicting(one, 2), inDoubt(two)} {
		batch.Accepts = append(batch.Accepts, &relay.Accept{Event: ev, Window: window, Deliveries: to(billing)})
	}
	b.apply(batch)
	for i, want := range []struct {
		result relay.Result
		first  *relay.Event
	}{
		{relay.Accepted, one},
		{relay.Duplicate, one},
		{relay.Accepted, two},
		{relay.Conflict, one},
		{relay.Conflict, one},
		{relay.Conflict, one},
		{relay.Accepted, two},
	} {
		b.wantResult(batch.Accepts[i], want.result, want.first)
	}
	if r := b.record(one); r.Duplicates != 1 || r.Conflicts != 3 || len(r.Variants) != 2 {
		b.t.Fatalf("read %+v", r)
	}
	b.wantCounts(billing, 2, 0, 0, 0)
	b.wantLeased(b.lease(billing, 10), one, two)
}

func acceptSources(b *bench) {
	ev := b.accept("one", billing)
	foreign := repeated(ev)
	foreign.Source = "drums"
	b.wantResult(b.put(foreign, to(billing)...), relay.Accepted, foreign)
	b.wantResult(b.put(repeated(foreign), to(billing)...), relay.Duplicate, foreign)
	b.wantResult(b.put(repeated(ev), to(billing)...), relay.Duplicate, ev)
	b.wantCounts(billing, 1, 0, 0, 0)
	if c := b.countOf("drums", billing); c.Pending != 1 {
		b.t.Fatalf("the other source counts %+v", c)
	}
}

func acceptInDoubt(b *bench) {
	ev := newEvent("one")
	b.put(ev, to(billing, search)...)
	again := inDoubt(ev)
	b.wantResult(b.put(again, to(billing, search)...), relay.Accepted, ev)
	b.wantCounts(billing, 1, 0, 0, 0)
	if again.Seq != ev.Seq {
		b.t.Fatalf("sequence %d, was %d", again.Seq, ev.Seq)
	}
	// A worker has it by now; nobody else may get it by the accept that comes again.
	l := b.leaseOne(billing, ev)
	op := b.put(inDoubt(ev), relay.NewDelivery{Destination: billing, LeaseFor: leaseFor}, relay.NewDelivery{Destination: search, LeaseFor: leaseFor})
	b.wantResult(op, relay.Accepted, ev)
	for _, leased := range op.Leased {
		if leased.Destination == billing {
			b.t.Fatal("leased twice")
		}
	}
	b.settleAll(relay.OutcomeDelivered, l)
	b.Reopen()
	b.wantResult(b.put(inDoubt(ev), to(billing, search)...), relay.Accepted, ev)
	b.wantCounts(billing, 0, 0, 1, 0)
	if r := b.record(ev); r.Duplicates != 0 || r.Conflicts != 0 || len(r.Deliveries) != 2 {
		b.t.Fatalf("read %+v", r)
	}
}

// A spool may keep an accept in doubt for longer than the window of its key.
func acceptInDoubtLate(b *bench) {
	ev := newEvent("one")
	b.put(ev, to(billing)...)
	b.Advance(window + slack)
	b.wantResult(b.put(inDoubt(ev), to(billing)...), relay.Accepted, ev)
	b.wantCounts(billing, 1, 0, 0, 0)
	b.wantLeased(b.lease(billing, 2), ev)
}

// Tried again it is no duplicate of the event that has its key by now, nor a variant of it.
func acceptInDoubtOvertaken(b *bench) {
	for i, separate := range []bool{false, true} {
		ev := b.accept("one", billing)
		b.Advance(window + slack)
		same, other := repeated(ev), conflicting(ev, 1)
		next := []*relay.Event{same, other}[i]
		b.wantResult(b.put(next, to(billing)...), relay.Accepted, next)
		op := &relay.Accept{Event: inDoubt(ev), Window: window, Separate: separate, Deliveries: to(billing)}
		b.apply(&relay.Batch{Accepts: []*relay.Accept{op}})
		b.wantResult(op, relay.Accepted, ev)
		if r := b.record(next); op.Event.Seq != ev.Seq || r.Duplicates != 0 || r.Conflicts != 0 || len(r.Variants) != 0 {
			b.t.Fatalf("its number is %d, was %d; the later event reads %+v", op.Event.Seq, ev.Seq, r)
		}
	}
}

// Nobody knows what became of a batch whose context ended; the same one, applied again, ends in one event.
func acceptGivenUp(b *bench) {
	ctx, cancel := context.WithCancel(b.ctx())
	cancel()
	ev := newEvent("one")
	op := &relay.Accept{Event: inDoubt(ev), Window: window, Deliveries: to(billing)}
	b.Store.Apply(ctx, &relay.Batch{Accepts: []*relay.Accept{op}})
	if op.Err == nil {
		b.wantResult(op, relay.Accepted, ev)
	}
	b.wantResult(b.put(ev, to(billing)...), relay.Accepted, ev)
	b.wantCounts(billing, 1, 0, 0, 0)
	if r := b.record(ev); r.Duplicates != 0 || len(r.Deliveries) != 1 {
		b.t.Fatalf("read %+v", r)
	}
	b.wantLeased(b.lease(billing, 5), ev)
}

func acceptLarge(b *bench) {
	ev := newEvent("one")
	ev.Body = bytes.Repeat([]byte("{\"\x00\xff\r\n{}"), relay.MaxBodyLimit/8)
	ev.Headers = nil
	b.put(ev, to(billing)...)
	other := conflicting(ev, 1)
	other.Body = bytes.Repeat([]byte("v"), relay.MaxBodyLimit)
	b.put(other)
	if r := b.record(ev); !bytes.Equal(r.Body, ev.Body) || len(r.Headers) != 0 || !bytes.Equal(r.Variants[0].Body, other.Body) {
		b.t.Fatalf("read %d bytes, %v, and %d bytes", len(r.Body), r.Headers, len(r.Variants[0].Body))
	}
	if l := b.leaseOne(billing, ev); !bytes.Equal(l.Event.Body, ev.Body) || len(l.Event.Headers) != 0 {
		b.t.Fatalf("leased %d bytes, %v", len(l.Event.Body), l.Event.Headers)
	}
}

// acceptMost applies what the engine puts into one batch at most.
func acceptMost(b *bench) {
	var old []*relay.Settle
	b.acceptMany(relay.MaxTouched/2, to(billing)...)
	for _, l := range b.leaseAll(billing) {
		old = append(old, &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: attempt(200)})
	}
	batch := &relay.Batch{Settles: old}
	for range relay.MaxTouched / 4 {
		batch.Accepts = append(batch.Accepts, &relay.Accept{Event: newEvent("one"), Window: window, Deliveries: to(billing, search)})
	}
	for _, d := range []string{billing, search} {
		batch.Leases = append(batch.Leases, &relay.Lease{Source: source, Destination: d, Max: relay.MaxTouched, For: leaseFor})
	}
	b.apply(batch)
	for _, op := range batch.Leases {
		if len(op.Leased) != relay.MaxTouched/4 {
			b.t.Fatalf("leased %d from %s", len(op.Leased), op.Destination)
		}
	}
	b.wantCounts(billing, 0, relay.MaxTouched/4, relay.MaxTouched/2, 0)
	b.wantCounts(search, 0, relay.MaxTouched/4, 0, 0)
}

func acceptConcurrently(b *bench) {
	const callers, keys = 12, 25
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
			ops[c] = append(ops[c], &relay.Accept{Event: repeated(first), Window: window, Deliveries: to(billing)})
		}
		wg.Go(func() {
			for i := 0; i < keys; i += 5 {
				stores[c%len(stores)].Apply(b.ctx(), &relay.Batch{Accepts: ops[c][i : i+5]})
			}
		})
	}
	wg.Wait()
	for k := range keys {
		accepted := 0
		for c := range callers {
			op := ops[c][k]
			b.must(op.Err)
			if op.FirstID != ops[0][k].FirstID {
				b.t.Fatalf("two events have one key: %s and %s", op.FirstID, ops[0][k].FirstID)
			}
			switch op.Result {
			case relay.Accepted:
				accepted++
			case relay.Duplicate:
			default:
				b.t.Fatalf("result %d", op.Result)
			}
		}
		if accepted != 1 {
			b.t.Fatalf("%d callers were told that theirs is the first", accepted)
		}
		if r := b.record(&relay.Event{ID: ops[0][k].FirstID}); r.Duplicates != callers-1 {
			b.t.Fatalf("%d duplicates, want %d", r.Duplicates, callers-1)
		}
	}
	b.wantCounts(billing, keys, 0, 0, 0)
}
