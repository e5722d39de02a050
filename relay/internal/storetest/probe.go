package storetest

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var probeTests = []test{
	{"those never tried first", probeUntried},
	{"before their time", probeBeforeTime},
	{"in turn", probeInTurn},
	{"leaves alone what it must", probeLeaves},
}

func (b *bench) probe(most int) []*relay.Leased {
	b.t.Helper()
	return b.ask(relay.Lease{Destination: billing, Max: most, Probe: true}).Leased
}

// retryAfter settles a lease with an attempt that failed.
func (b *bench) retryAfter(l *relay.Leased, delay time.Duration) {
	b.t.Helper()
	b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeRetry, Delay: delay, Attempt: attempt(500)})
}

func probeUntried(b *bench) {
	tried, released := b.accept("tried", billing), b.accept("released", billing)
	leased := b.lease(billing, 2)
	b.retryAfter(leased[0], time.Minute)
	b.Advance(10 * time.Minute) // the retry has been due for long
	b.settle(relay.Settle{Leased: b.leaseOneOf(released), Outcome: relay.OutcomeRelease})
	b.accept("fresh", billing)
	got := b.probe(2)
	if len(got) != 2 || got[0].Event.ID == tried.ID || got[1].Event.ID == tried.ID {
		b.t.Fatal("probed with what was tried, though others were not")
	}
	b.wantLeased(b.probe(5), tried)
}

// leaseOneOf leases all that is due to billing and releases all but the delivery of ev, untouched.
func (b *bench) leaseOneOf(ev *relay.Event) *relay.Leased {
	b.t.Helper()
	var wanted *relay.Leased
	for _, l := range b.leaseAll(billing) {
		if l.Event.ID == ev.ID {
			wanted = l
		} else {
			b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeRelease})
		}
	}
	if wanted == nil {
		b.t.Fatalf("%s was not due", ev.ID)
	}
	return wanted
}

func probeBeforeTime(b *bench) {
	one, two, three := b.accept("one", billing), b.accept("two", billing), b.accept("three", billing)
	for i, l := range b.lease(billing, 3) {
		b.retryAfter(l, []time.Duration{3 * time.Hour, time.Hour, 2 * time.Hour}[i])
	}
	b.wantLeased(b.lease(billing, 5))
	got := b.probe(2)
	b.wantLeased(got, two, three)
	if got[0].Tries != 1 {
		b.t.Fatalf("leased %+v", got[0])
	}
	b.wantCounts(billing, 1, 2, 0, 0)
	b.settleAll(relay.OutcomeDelivered, got...)
	b.wantLeased(b.lease(billing, 5)) // the third keeps its time
	b.wantLeased(b.probe(5), one)
}

// A delivery that fails every probe does not keep the others from theirs.
func probeInTurn(b *bench) {
	events := []*relay.Event{b.accept("one", billing), b.accept("two", billing), b.accept("three", billing)}
	for i := range 9 {
		got := b.probe(1)
		b.wantLeased(got, events[i%3])
		b.retryAfter(got[0], time.Hour)
		b.Advance(30 * time.Second)
	}
}

func probeLeaves(b *bench) {
	if op := b.ask(relay.Lease{Destination: billing, Max: 1, Probe: true}); len(op.Leased) != 0 || op.Next >= 0 {
		b.t.Fatalf("of nothing it leased %d, next %v", len(op.Leased), op.Next)
	}
	b.accept("one", billing)
	b.wantCounts(billing, 1, 0, 0, 0)
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	if op := b.ask(relay.Lease{Destination: billing, Max: 1, Probe: true}); len(op.Leased) != 0 || !op.Paused {
		b.t.Fatalf("of a paused destination it leased %d, paused %v", len(op.Leased), op.Paused)
	}
	b.must(b.Store.Pause(b.ctx(), source, billing, false))
	first := b.acceptNew("task", ordered(billing)...)
	b.acceptNew("task", ordered(billing)...)
	got := b.probe(5)
	if len(got) != 2 || got[1].Event.ID != first.ID {
		b.t.Fatalf("leased %d, want the first of its task alone", len(got))
	}
	b.wantLeased(b.probe(5)) // what is in flight is left to its holder
}
