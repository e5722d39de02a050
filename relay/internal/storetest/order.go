package storetest

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var orderTests = []test{
	{"one of a task at a time", orderChain},
	{"waits through retries", orderRetries},
	{"next within the settle's batch", orderBatch},
	{"per destination, task and wish", orderApart},
	{"across reopening", orderReopen},
	{"lease expiry", orderLeaseExpiry},
	{"unblocked by Expire", orderExpire},
	{"unblocked by Discard", orderDiscard},
	{"discard behind what is in flight", orderDiscardBehind},
	{"replay goes before later ones", orderReplay},
	{"replay waits for what is in flight", orderReplayBehind},
	{"redrive", orderRedrive},
}

// chain accepts n ordered events of one task, oldest first.
func (b *bench) chain(n int) []*relay.Event {
	b.t.Helper()
	var events []*relay.Event
	for len(events) < n {
		batch := &relay.Batch{}
		for range min(100, n-len(events)) {
			ev := newEvent("chain")
			batch.Accepts = append(batch.Accepts, &relay.Accept{Event: ev, Window: window, Deliveries: ordered(billing)})
			events = append(events, ev)
		}
		b.apply(batch)
	}
	return events
}

// wantTurn leases the delivery of ev, which must be the only one that is due.
func (b *bench) wantTurn(ev *relay.Event) *relay.Leased {
	b.t.Helper()
	got := b.lease(billing, 10)
	b.wantLeased(got, ev)
	return got[0]
}

// pass settles a lease and checks whether another delivery got its turn.
func (b *bench) pass(l *relay.Leased, outcome relay.Outcome, unblocked bool) {
	b.t.Helper()
	if op := b.settle(relay.Settle{Leased: l, Outcome: outcome, Attempt: attempt(200)}); op.Unblocked != unblocked {
		b.t.Fatalf("unblocked is %v, want %v", op.Unblocked, unblocked)
	}
}

func orderChain(b *bench) {
	chain := b.chain(4)
	b.wantCounts(billing, 4, 0, 0, 0)
	b.wantState(chain[1], billing, relay.StatePending)
	for i, ev := range chain {
		l := b.wantTurn(ev)
		if op := b.ask(relay.Lease{Destination: billing, Max: 5}); len(op.Leased) != 0 || op.Next <= 0 {
			b.t.Fatalf("leased %d behind what is in flight, next %v", len(op.Leased), op.Next)
		}
		outcome := []relay.Outcome{relay.OutcomeDelivered, relay.OutcomeDead}[i%2]
		b.pass(l, outcome, i < len(chain)-1)
	}
	b.wantCounts(billing, 0, 0, 2, 2)
	if op := b.ask(relay.Lease{Destination: billing, Max: 5}); op.Next >= 0 {
		b.t.Fatalf("next %v, though nothing waits", op.Next)
	}
}

func orderRetries(b *bench) {
	chain := b.chain(2)
	b.retryAfter(b.wantTurn(chain[0]), time.Hour)
	if op := b.ask(relay.Lease{Destination: billing, Max: 5}); len(op.Leased) != 0 || op.Next < time.Hour-slack {
		b.t.Fatalf("leased %d behind a retry, next %v", len(op.Leased), op.Next)
	}
	b.wantLeased(b.probe(5), chain[0])
	b.Advance(time.Hour)
	l := b.wantTurn(chain[0])
	b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeRelease})
	b.pass(b.wantTurn(chain[0]), relay.OutcomeDelivered, true)
	b.wantTurn(chain[1])
}

func orderBatch(b *bench) {
	chain := b.chain(3)
	l := b.wantTurn(chain[0])
	for _, ev := range chain[1:] {
		lease := &relay.Lease{Source: source, Destination: billing, Max: 5, For: leaseFor}
		b.apply(&relay.Batch{
			Settles: []*relay.Settle{{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: attempt(200)}},
			Leases:  []*relay.Lease{lease},
		})
		b.wantLeased(lease.Leased, ev)
		l = lease.Leased[0]
	}
}

func orderApart(b *bench) {
	one := b.acceptNew("task", ordered(billing, search)...)
	two := b.acceptNew("task", ordered(billing, search)...)
	other := b.acceptNew("task-2", ordered(billing)...) // a task whose name begins like another
	free := b.acceptNew("task", to(billing)...)
	l := b.lease(billing, 10)
	b.wantLeased(l, one, other, free)
	b.wantLeased(b.lease(search, 10), one)
	b.settleAll(relay.OutcomeDelivered, l[1], l[2])
	b.wantLeased(b.lease(billing, 10))
	b.pass(l[0], relay.OutcomeDelivered, true)
	b.wantTurn(two)
	b.wantLeased(b.lease(search, 10))
	// What keeps no order neither waits nor is waited for.
	last := b.acceptNew("task-3", to(search)...)
	next := b.acceptNew("task-3", ordered(search)...)
	b.wantLeased(b.lease(search, 10), last, next)
}

func orderReopen(b *bench) {
	chain := b.chain(3)
	b.pass(b.wantTurn(chain[0]), relay.OutcomeDelivered, true)
	b.Reopen()
	l := b.wantTurn(chain[1])
	b.pass(l, relay.OutcomeDelivered, true)
	b.Reopen()
	b.pass(b.wantTurn(chain[2]), relay.OutcomeDelivered, false)
	later := b.acceptNew("chain", ordered(billing)...)
	b.wantTurn(later)
}

func orderLeaseExpiry(b *bench) {
	chain := b.chain(2)
	stale := b.wantTurn(chain[0])
	b.Advance(leaseFor)
	l := b.wantTurn(chain[0])
	b.wantStale(stale, chain[0])
	b.wantLeased(b.lease(billing, 5))
	b.pass(l, relay.OutcomeDelivered, true)
	b.wantTurn(chain[1])
}

func orderExpire(b *bench) {
	one := b.acceptNew("task", ordered(billing)...)
	two := b.acceptNew("task", ordered(billing)...)
	b.retryAfter(b.wantTurn(one), 100*time.Hour)
	b.Advance(2 * time.Hour)
	three := b.acceptNew("task", ordered(billing)...)
	four := b.acceptNew("task", ordered(billing)...)
	if letters := b.expire(time.Hour); len(letters) != 2 {
		b.t.Fatalf("%d expired, want 2", len(letters))
	}
	b.wantState(two, billing, relay.StateDead)
	b.pass(b.wantTurn(three), relay.OutcomeDelivered, true)
	b.wantTurn(four)
}

// Not all of a chain may go in one step; what is left goes on.
func orderDiscard(b *bench) {
	chain := b.chain(relay.MaxTouched + 3)
	n, _, err := b.Store.Discard(b.ctx(), relay.Selection{Source: source, Destination: billing, Orphaned: true}, "")
	b.must(err)
	if n != relay.MaxTouched {
		b.t.Fatalf("one step discarded %d", n)
	}
	b.wantCounts(billing, 3, 0, 0, 0)
	var left []*relay.Event
	for _, ev := range chain {
		if len(b.record(ev).Deliveries) > 0 {
			left = append(left, ev)
		}
	}
	if len(left) != 3 {
		b.t.Fatalf("%d are left", len(left))
	}
	for i, ev := range left {
		b.pass(b.wantTurn(ev), relay.OutcomeDelivered, i < 2)
	}
}

func orderDiscardBehind(b *bench) {
	chain := b.chain(3)
	l := b.wantTurn(chain[0])
	if n := b.discard(relay.Selection{Source: source, Destination: billing, Orphaned: true}); n != 2 {
		b.t.Fatalf("discarded %d, want the two that wait", n)
	}
	later := b.acceptNew("chain", ordered(billing)...)
	b.wantLeased(b.lease(billing, 5))
	b.pass(l, relay.OutcomeDelivered, true)
	b.pass(b.wantTurn(later), relay.OutcomeDelivered, false)
}

func orderReplay(b *bench) {
	chain := b.chain(3)
	b.pass(b.wantTurn(chain[0]), relay.OutcomeDead, true)
	b.pass(b.wantTurn(chain[1]), relay.OutcomeDelivered, true)
	// The third has its turn and nobody has it in hand, so that it waits for the first again.
	b.replay(chain[0], 0, 1, 0, billing)
	b.pass(b.wantTurn(chain[0]), relay.OutcomeDelivered, true)
	l := b.wantTurn(chain[2])
	b.pass(l, relay.OutcomeDelivered, false)
	// A replayed one holds back what is accepted after.
	b.replay(chain[2], 0, 1, 0, billing)
	b.replay(chain[1], 0, 1, 0, billing)
	later := b.acceptNew("chain", ordered(billing)...)
	b.pass(b.wantTurn(chain[1]), relay.OutcomeDelivered, true)
	b.pass(b.wantTurn(chain[2]), relay.OutcomeDead, true)
	b.pass(b.wantTurn(later), relay.OutcomeDelivered, false)
	b.wantCounts(billing, 0, 0, 3, 1)
}

func orderReplayBehind(b *bench) {
	chain := b.chain(3)
	b.pass(b.wantTurn(chain[0]), relay.OutcomeDead, true)
	l := b.wantTurn(chain[1])
	b.replay(chain[0], 0, 1, 0, billing)
	b.wantLeased(b.lease(billing, 5))
	b.retryAfter(l, time.Minute) // it gives its turn up to the first
	b.Advance(time.Minute)
	b.pass(b.wantTurn(chain[0]), relay.OutcomeDelivered, true)
	b.pass(b.wantTurn(chain[1]), relay.OutcomeDelivered, true)
	b.pass(b.wantTurn(chain[2]), relay.OutcomeDelivered, false)
}

func orderRedrive(b *bench) {
	chain := b.chain(3)
	for i, ev := range chain {
		b.pass(b.wantTurn(ev), relay.OutcomeDead, i < 2)
	}
	n, _, err := b.Store.Redrive(b.ctx(), relay.Selection{Source: source, Destination: billing}, relay.Pace{}, "")
	b.must(err)
	if n != 3 {
		b.t.Fatalf("redrove %d", n)
	}
	for i, ev := range chain {
		b.pass(b.wantTurn(ev), relay.OutcomeDelivered, i < 2)
	}
	b.wantCounts(billing, 0, 0, 3, 0)
}
