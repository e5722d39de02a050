package storetest

import (
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var behindTests = []test{
	{"waits until the other is settled", behindSettle},
	{"neither leased at accept nor probed", behindNotLeased},
	{"waits through retries and reopening", behindRetry},
	{"freed with the lease at accept", behindLeasedAtAccept},
	{"freed by Expire", behindExpire},
	{"freed by Discard", behindDiscard},
	{"freed by Reassign, and stays where it waits", behindReassign},
	{"expires while it waits", behindExpires},
	{"discarded while it waits", behindDiscarded},
	{"keeps its task's order", behindOrdered},
	{"an older one is replayed before it", behindOvertaken},
	{"a replay does not wait", behindReplay},
	{"without the other one", behindNothing},
	{"only of its own event", behindApart},
}

const awaited = relay.ArchiveName

// behind makes a delivery to the archive and others that wait for it.
func behind(destinations ...string) []relay.NewDelivery {
	ds := to(append([]string{awaited}, destinations...)...)
	for i := range ds[1:] {
		ds[i+1].Behind = awaited
	}
	return ds
}

// wantHeld checks that a delivery waits, and is shown as pending.
func (b *bench) wantHeld(ev *relay.Event, destination string) {
	b.t.Helper()
	if op := b.ask(relay.Lease{Destination: destination, Max: 5}); len(op.Leased) != 0 || op.Next >= 0 {
		b.t.Fatalf("leased %d, next %v, though all wait", len(op.Leased), op.Next)
	}
	if op := b.ask(relay.Lease{Destination: destination, Max: 5, Probe: true}); len(op.Leased) != 0 {
		b.t.Fatalf("a probe leased %d, though all wait", len(op.Leased))
	}
	if d := b.delivery(ev, destination); d.State != relay.StatePending || d.NextAttempt != 0 || d.Reason != "" {
		b.t.Fatalf("read %+v", d)
	}
}

// free settles the delivery that others wait for.
func (b *bench) free(l *relay.Leased, outcome relay.Outcome, want ...string) {
	b.t.Helper()
	op := b.settle(relay.Settle{Leased: l, Outcome: outcome, Attempt: attempt(200)})
	slices.Sort(op.Freed)
	if !slices.Equal(op.Freed, want) {
		b.t.Fatalf("freed %v, want %v", op.Freed, want)
	}
}

func behindSettle(b *bench) {
	for _, outcome := range []relay.Outcome{relay.OutcomeDelivered, relay.OutcomeDead} {
		ev := b.acceptNew("one", append(behind(billing, search), to("other")...)...)
		b.wantHeld(ev, billing)
		b.wantHeld(ev, search)
		b.settleAll(relay.OutcomeDelivered, b.leaseOne("other", ev))
		b.free(b.leaseOne(awaited, ev), outcome, billing, search)
		b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev), b.leaseOne(search, ev))
	}
	b.wantCounts(billing, 0, 0, 2, 0)
	b.wantCounts(search, 0, 0, 2, 0)
}

func behindNotLeased(b *bench) {
	ds := behind(billing)
	ds[1].LeaseFor = leaseFor
	ev := newEvent("one")
	if op := b.put(ev, ds...); len(op.Leased) != 0 {
		b.t.Fatalf("leased %d at accept", len(op.Leased))
	}
	b.wantHeld(ev, billing)
	b.wantCounts(billing, 1, 0, 0, 0)
	// What waits stands in nobody's way.
	free := newEvent("two")
	if op := b.put(free, relay.NewDelivery{Destination: billing, LeaseFor: leaseFor}); len(op.Leased) != 1 {
		b.t.Fatal("a later one was not leased at accept")
	}
}

func behindRetry(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	b.retryAfter(b.leaseOne(awaited, ev), time.Hour)
	b.Reopen()
	b.Advance(time.Hour)
	b.wantHeld(ev, billing)
	b.free(b.leaseOne(awaited, ev), relay.OutcomeRelease)
	b.wantHeld(ev, billing)
	stale := b.leaseOne(awaited, ev)
	b.Advance(leaseFor)
	l := b.leaseOne(awaited, ev)
	b.wantStale(stale, ev)
	b.wantHeld(ev, billing)
	b.free(l, relay.OutcomeDelivered, billing)
	b.Reopen()
	b.leaseOne(billing, ev)
}

func behindLeasedAtAccept(b *bench) {
	ds := behind(billing)
	ds[0].LeaseFor = leaseFor
	ev := newEvent("one")
	op := b.put(ev, ds...)
	b.wantLeased(op.Leased, ev)
	// What is freed is leased in the same batch.
	lease := &relay.Lease{Source: source, Destination: billing, Max: 5, For: leaseFor}
	b.apply(&relay.Batch{
		Settles: []*relay.Settle{{Leased: op.Leased[0], Outcome: relay.OutcomeDelivered, Attempt: attempt(200)}},
		Leases:  []*relay.Lease{lease},
	})
	b.wantLeased(lease.Leased, ev)
}

func behindExpire(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	b.Advance(2 * time.Hour)
	letters, err := b.Store.Expire(b.ctx(), source, awaited, time.Hour)
	b.must(err)
	if len(letters) != 1 {
		b.t.Fatalf("%d expired", len(letters))
	}
	b.leaseOne(billing, ev)
}

func behindDiscard(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	if n := b.discard(relay.Selection{Source: source, Destination: awaited, Orphaned: true}); n != 1 {
		b.t.Fatalf("discarded %d", n)
	}
	b.leaseOne(billing, ev)
}

func behindReassign(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	r, _, err := b.Store.Reassign(b.ctx(), source, billing, search, "")
	b.must(err)
	if r != (relay.Reassigned{Left: 1}) {
		b.t.Fatalf("reassigned %+v, though it waits", r)
	}
	b.wantHeld(ev, billing)
	r, _, err = b.Store.Reassign(b.ctx(), source, awaited, "elsewhere", "")
	b.must(err)
	if r != (relay.Reassigned{Moved: 1}) {
		b.t.Fatalf("reassigned %+v", r)
	}
	b.leaseOne(billing, ev)
	b.leaseOne("elsewhere", ev)
}

func behindExpires(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	b.Advance(2 * time.Hour)
	if letters := b.expire(time.Hour); len(letters) != 1 {
		b.t.Fatalf("%d expired", len(letters))
	}
	b.wantState(ev, billing, relay.StateDead)
	b.free(b.leaseOne(awaited, ev), relay.OutcomeDelivered)
	b.wantLeased(b.lease(billing, 5))
	b.replay(ev, 0, 1, 0, billing)
	b.leaseOne(billing, ev)
}

func behindDiscarded(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	if n := b.discard(relay.Selection{Source: source, Destination: billing, Orphaned: true}); n != 1 {
		b.t.Fatalf("discarded %d", n)
	}
	b.free(b.leaseOne(awaited, ev), relay.OutcomeDelivered)
	b.wantLeased(b.lease(billing, 5))
	b.wantCounts(billing, 0, 0, 0, 0)
}

// heldChain accepts n events of one task, ordered and behind.
func (b *bench) heldChain(n int) (events []*relay.Event) {
	b.t.Helper()
	for range n {
		ds := behind(billing)
		ds[1].Ordered = true
		events = append(events, b.acceptNew("chain", ds...))
	}
	return events
}

func behindOrdered(b *bench) {
	chain := b.heldChain(3)
	l := b.lease(awaited, 3)
	b.wantLeased(l, chain...)
	b.free(l[1], relay.OutcomeDelivered, billing) // which waits for the first one's files all the same
	b.wantHeld(chain[1], billing)
	b.free(l[0], relay.OutcomeDelivered, billing)
	b.settleAll(relay.OutcomeDelivered, b.wantTurn(chain[0]))
	b.settleAll(relay.OutcomeDelivered, b.wantTurn(chain[1]))
	b.wantHeld(chain[2], billing)
	b.free(l[2], relay.OutcomeDelivered, billing)
	b.settleAll(relay.OutcomeDelivered, b.wantTurn(chain[2]))
	b.wantCounts(billing, 0, 0, 3, 0)
}

func behindOvertaken(b *bench) {
	chain := b.heldChain(2)
	l := b.lease(awaited, 2)
	b.free(l[0], relay.OutcomeDelivered, billing)
	b.settleAll(relay.OutcomeDead, b.wantTurn(chain[0]))
	b.wantHeld(chain[1], billing)
	b.replay(chain[0], 0, 1, 0, billing)
	first := b.wantTurn(chain[0])
	b.settleAll(relay.OutcomeDelivered, first)
	b.wantHeld(chain[1], billing)
	b.replay(chain[0], 0, 1, 0, billing)
	b.free(l[1], relay.OutcomeDelivered, billing)
	b.settleAll(relay.OutcomeDelivered, b.wantTurn(chain[0]))
	b.wantTurn(chain[1])
}

func behindReplay(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	b.free(b.leaseOne(awaited, ev), relay.OutcomeDelivered, billing)
	// The archive's own replay pulls nothing back.
	b.replay(ev, 0, 1, 0, awaited)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.replay(ev, 0, 1, 0, billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.free(b.leaseOne(awaited, ev), relay.OutcomeDelivered)
	b.wantCounts(billing, 0, 0, 1, 0)
}

func behindNothing(b *bench) {
	ds := to(billing, search)
	ds[0].Behind, ds[1].Behind = awaited, search
	ev := b.acceptNew("one", ds...)
	b.leaseOne(billing, ev)
	b.leaseOne(search, ev)
	// Of two that are behind each other none waits.
	ds[0].Behind, ds[1].Behind = search, billing
	ev = b.acceptNew("two", ds...)
	b.leaseOne(billing, ev)
	b.leaseOne(search, ev)
}

func behindApart(b *bench) {
	one := b.acceptNew("one", behind(billing)...)
	two := b.acceptNew("one", behind(billing)...)
	l := b.lease(awaited, 5)
	b.wantLeased(l, one, two)
	b.free(l[1], relay.OutcomeDelivered, billing)
	b.wantLeased(b.lease(billing, 5), two)
	b.free(l[0], relay.OutcomeDelivered, billing)
	b.wantLeased(b.lease(billing, 5), one)
}
