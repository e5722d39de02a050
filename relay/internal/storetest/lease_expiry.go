package storetest

import (
	"errors"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var leaseExpiryTests = []test{
	{"leased again", expiryLeasesAgain},
	{"of a lease at accept", expiryAtAccept},
	{"before what was accepted later", amongTasks(expiryBeforeLater)},
	{"settled late, while nobody else has it", expirySettledLate},
	{"settled late, as another lease is asked for", expirySettledBesideLease},
	{"settled twice", expirySettledTwice},
	{"settled by the holder before the reopening", expiryAcrossReopen},
	{"leases at reopening", expiryReopen},
}

// wantStale settles with a token that is no longer the current one, in every way, and sees that nothing changes.
func (b *bench) wantStale(l *relay.Leased, ev *relay.Event) {
	b.t.Helper()
	b.wantUnchanged(l, ev, func(err error) bool { return errors.Is(err, relay.ErrLeaseLost) })
}

// wantSettled settles once more what its holder has settled. A store may know that it was done, or call the lease lost.
func (b *bench) wantSettled(l *relay.Leased, ev *relay.Event) {
	b.t.Helper()
	b.wantUnchanged(l, ev, func(err error) bool { return err == nil || errors.Is(err, relay.ErrLeaseLost) })
}

func (b *bench) wantUnchanged(l *relay.Leased, ev *relay.Event, allowed func(error) bool) {
	b.t.Helper()
	before, count := b.delivery(ev, l.Destination), b.count(l.Destination)
	for _, outcome := range []relay.Outcome{relay.OutcomeDelivered, relay.OutcomeRetry, relay.OutcomeDead, relay.OutcomeRelease} {
		op := relay.Settle{Leased: l, Outcome: outcome, Delay: time.Hour, Used: true, Attempt: attempt(500), Reason: "stale"}
		if err := b.trySettle(op); !allowed(err) {
			b.t.Fatalf("a settle that comes too late returns %v", err)
		}
	}
	after := b.delivery(ev, l.Destination)
	if after.State != before.State || after.Tries != before.Tries || len(after.Attempts) != len(before.Attempts) || after.Reason != before.Reason {
		b.t.Fatalf("a settle that came too late made %+v of %+v", after, before)
	}
	b.wantCounts(l.Destination, count.Pending, count.InFlight, count.Delivered, count.Dead)
}

func expiryLeasesAgain(b *bench) {
	ev := b.accept("one", billing)
	first := b.leaseOne(billing, ev)
	b.Advance(leaseFor - slack)
	b.wantLeased(b.lease(billing, 5))
	b.Advance(slack)
	second := b.leaseOne(billing, ev)
	if second.Token == first.Token {
		b.t.Fatal("the second lease has the first one's token")
	}
	if second.Tries != 0 || second.Used != 0 {
		b.t.Fatalf("a lease that expired counts as an attempt: %+v", second)
	}
	c := b.count(billing)
	if c.LeaseExpired != 1 || c.InFlight != 1 || c.Pending != 0 {
		b.t.Fatalf("counts %+v", c)
	}
	b.wantStale(first, ev)
	b.settleAll(relay.OutcomeDelivered, second)
	b.wantStale(first, ev)
	b.wantSettled(second, ev)
	b.wantCounts(billing, 0, 0, 1, 0)
	b.Reopen()
	if c := b.count(billing); c.LeaseExpired != 0 {
		b.t.Fatalf("counts %+v, though this store saw no lease expire", c)
	}
}

func expiryAtAccept(b *bench) {
	ev := newEvent("one")
	first := b.put(ev, now(billing)).Leased[0]
	b.wantWithin("next", b.ask(relay.Lease{Destination: billing, Max: 5}).Next, leaseFor)
	b.Advance(leaseFor)
	second := b.leaseOne(billing, ev)
	b.wantStale(first, ev)
	b.settleAll(relay.OutcomeDead, second)
	b.wantCounts(billing, 0, 0, 0, 1)
}

// What a gateway held that died had its turn: it does not wait behind all that came until its leases ended.
func expiryBeforeLater(b *bench) {
	first := newEvent("one")
	b.put(first, now(billing))
	second := b.accept("two", billing)
	b.leaseOne(billing, second)
	third := b.accept("three", billing)
	b.Advance(leaseFor)
	fourth := b.accept("four", billing)
	b.wantLeased(b.lease(billing, 5), first, second, third, fourth)
}

// An answer that came too late still counts: the work was done, and nobody else does it.
func expirySettledLate(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.Advance(10 * leaseFor)
	b.settleAll(relay.OutcomeDelivered, l)
	b.wantCounts(billing, 0, 0, 1, 0)
	b.wantLeased(b.lease(billing, 5))
}

func expirySettledBesideLease(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.Advance(leaseFor)
	settle := &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Used: true, Attempt: attempt(200)}
	lease := &relay.Lease{Source: source, Destination: billing, Max: 5, For: leaseFor}
	b.apply(&relay.Batch{Settles: []*relay.Settle{settle}, Leases: []*relay.Lease{lease}})
	if len(lease.Leased) != 0 {
		b.t.Fatalf("what was delivered is leased again: %+v", lease.Leased[0])
	}
	b.wantState(ev, billing, relay.StateDelivered)
}

func expirySettledTwice(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	first := &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: attempt(200)}
	second := &relay.Settle{Leased: l, Outcome: relay.OutcomeDead, Attempt: attempt(500)}
	b.Store.Apply(b.ctx(), &relay.Batch{Settles: []*relay.Settle{first, second}})
	b.must(first.Err)
	if second.Err != nil && !errors.Is(second.Err, relay.ErrLeaseLost) {
		b.t.Fatalf("settled twice in a batch: %v", second.Err)
	}
	b.wantSettled(l, ev)
	b.wantCounts(billing, 0, 0, 1, 0)
	if d := b.delivery(ev, billing); d.Tries != 1 || len(d.Attempts) != 1 {
		b.t.Fatalf("read %+v", d)
	}
}

// Tokens do not start again with the process: a settle that outlived it is still told from the current one.
func expiryAcrossReopen(b *bench) {
	ev := b.accept("one", billing)
	first := b.leaseOne(billing, ev)
	b.Reopen()
	b.Advance(leaseFor)
	second := b.leaseOne(billing, ev)
	b.wantStale(first, ev)
	b.settleAll(relay.OutcomeDelivered, second)
}

func expiryReopen(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.Reopen()
	if b.VoidsLeases {
		b.wantCounts(billing, 1, 0, 0, 0)
		b.wantState(ev, billing, relay.StatePending)
		b.leaseOne(billing, ev)
		b.wantStale(l, ev)
		return
	}
	b.wantCounts(billing, 0, 1, 0, 0)
	b.wantLeased(b.lease(billing, 5))
	b.settleAll(relay.OutcomeDelivered, l)
	b.wantCounts(billing, 0, 0, 1, 0)
}
