package storetest

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var reassignTests = []test{
	{"in every state", reassignStates},
	{"not what the other has already", reassignTwice},
	{"in steps", reassignSteps},
	{"in the order of their task", reassignOrdered},
	{"behind what is in flight", reassignBehind},
	{"by many at once", reassignConcurrently},
	{"after a lease has expired", reassignExpired},
	{"across reopening", reassignReopen},
}

const renamed = "renamed"

// reassign hands all of billing's deliveries to its new name, and checks how many that were.
func (b *bench) reassign(moved, left int) {
	b.t.Helper()
	var sum relay.Reassigned
	cursor := ""
	for range mostPages {
		r, next, err := b.Store.Reassign(b.ctx(), source, billing, renamed, cursor)
		b.must(err)
		sum.Moved, sum.Left = sum.Moved+r.Moved, sum.Left+r.Left
		if cursor = next; next == "" {
			break
		}
	}
	if sum.Moved != moved || sum.Left != left {
		b.t.Fatalf("moved %d and left %d, want %d and %d", sum.Moved, sum.Left, moved, left)
	}
}

func reassignStates(b *bench) {
	b.reassign(0, 0)
	delivered, dead := b.accept("delivered", billing, search), b.accept("dead", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOneOf(delivered))
	b.settle(relay.Settle{Leased: b.leaseOneOf(dead), Outcome: relay.OutcomeDead, Attempt: attempt(410), Reason: "given up"})
	retried := b.accept("retried", billing)
	b.retryAfter(b.leaseOneOf(retried), time.Hour)
	flying := b.accept("flying", billing)
	l := b.leaseOneOf(flying)
	pending := b.accept("pending", billing)

	b.reassign(4, 1)
	b.wantCounts(billing, 0, 1, 0, 0)
	b.wantCounts(renamed, 2, 0, 1, 1)
	b.wantCounts(search, 1, 0, 0, 0)
	if d := b.delivery(delivered, renamed); d.State != relay.StateDelivered || d.Tries != 1 || len(d.Attempts) != 1 {
		b.t.Fatalf("read %+v", d)
	}
	if r := b.record(delivered); len(r.Deliveries) != 2 {
		b.t.Fatalf("read %+v", r.Deliveries)
	}
	if letters := b.letters(relay.Selection{Destination: renamed}); len(letters) != 1 || letters[0].EventID != dead.ID || letters[0].LastStatus != 410 || letters[0].LastError != "given up" {
		b.t.Fatalf("listed %+v", letters)
	}
	if letters := b.letters(relay.Selection{Destination: billing}); len(letters) != 0 {
		b.t.Fatalf("still listed: %+v", letters)
	}
	b.wantWithin("the retry", b.delivery(retried, renamed).NextAttempt, time.Hour)
	got := b.lease(renamed, 5)
	b.wantLeased(got, pending)
	b.settleAll(relay.OutcomeDelivered, got...)
	b.settleAll(relay.OutcomeDelivered, l) // what is in flight ends where it was
	b.wantCounts(billing, 0, 0, 1, 0)
	b.reassign(1, 0)
	b.wantCounts(billing, 0, 0, 0, 0)
	b.wantCounts(renamed, 1, 0, 3, 1)
	b.replay(dead, 0, 1, 0, renamed)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(renamed, dead))
	b.Advance(time.Hour)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(renamed, retried))
	if d := b.delivery(retried, renamed); d.Tries != 2 || len(d.Attempts) != 2 {
		b.t.Fatalf("read %+v", d)
	}
}

func reassignTwice(b *bench) {
	ev := b.accept("one", billing, renamed)
	b.reassign(0, 1)
	b.wantCounts(billing, 1, 0, 0, 0)
	b.wantCounts(renamed, 1, 0, 0, 0)
	b.wantLeased(b.lease(billing, 5), ev)
}

func reassignSteps(b *bench) {
	const n = relay.MaxTouched + 50
	events := b.acceptMany(n, to(billing)...)
	r, next, err := b.Store.Reassign(b.ctx(), source, billing, renamed, "")
	b.must(err)
	if r.Moved != relay.MaxTouched || next == "" {
		b.t.Fatalf("the first step moved %d, and goes on at %q", r.Moved, next)
	}
	b.reassign(n-relay.MaxTouched, 0)
	b.wantCounts(renamed, n, 0, 0, 0)
	b.wantLeased(b.leaseAll(renamed), events...)
}

func reassignOrdered(b *bench) {
	chain := b.chain(4)
	b.retryAfter(b.wantTurn(chain[0]), time.Hour)
	later := newEvent("chain")
	b.put(later, ordered(renamed)...)
	b.reassign(4, 0)
	b.wantLeased(b.lease(renamed, 5))
	b.Advance(time.Hour)
	for _, ev := range append(chain, later) {
		got := b.lease(renamed, 5)
		b.wantLeased(got, ev)
		b.settleAll(relay.OutcomeDelivered, got...)
	}
	b.wantLeased(b.lease(billing, 5))
}

func reassignBehind(b *bench) {
	chain := b.chain(3)
	l := b.wantTurn(chain[0])
	b.reassign(0, 3)
	b.settleAll(relay.OutcomeDelivered, l)
	b.reassign(3, 0)
	for _, ev := range chain[1:] {
		got := b.lease(renamed, 5)
		b.wantLeased(got, ev)
		b.settleAll(relay.OutcomeDelivered, got...)
	}
}

func reassignConcurrently(b *bench) {
	const n = 200
	events := b.acceptMany(n, to(billing)...)
	total := b.together(func(s relay.Store) (int, error) {
		r, _, err := s.Reassign(b.ctx(), source, billing, renamed, "")
		return r.Moved, err
	})
	if total != n {
		b.t.Fatalf("moved %d, want %d", total, n)
	}
	b.wantCounts(renamed, n, 0, 0, 0)
	b.wantLeased(b.leaseAll(renamed), events...)
}

func reassignExpired(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.Advance(leaseFor + time.Second)
	b.reassign(1, 0)
	if err := b.trySettle(relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: attempt(200)}); err == nil {
		b.t.Fatal("a settle of before the move is not refused")
	}
	b.wantLeased(b.lease(renamed, 5), ev)
}

func reassignReopen(b *bench) {
	dead := b.kill("dead", billing)
	pending := b.accept("pending", billing)
	b.reassign(2, 0)
	b.Reopen()
	b.wantCounts(billing, 0, 0, 0, 0)
	b.wantCounts(renamed, 1, 0, 0, 1)
	b.wantState(dead, renamed, relay.StateDead)
	b.wantLeased(b.lease(renamed, 5), pending)
}
