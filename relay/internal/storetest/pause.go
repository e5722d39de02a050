package storetest

import (
	"github.com/callbackrelay/caddy-relay/relay"
)

var pauseTests = []test{
	{"holds its destination alone", pauseHolds},
	{"lasts", pauseLasts},
	{"settles go on", pauseSettles},
	{"a destination that has nothing yet", pauseNew},
}

func pauseHolds(b *bench) {
	ev := b.accept("one", billing, search)
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	op := b.ask(relay.Lease{Destination: billing, Max: 5})
	if !op.Paused || len(op.Leased) != 0 {
		b.t.Fatalf("paused %v, leased %d", op.Paused, len(op.Leased))
	}
	if c := b.count(billing); !c.Paused || c.Pending != 1 {
		b.t.Fatalf("counts %+v", c)
	}
	if op := b.ask(relay.Lease{Destination: search, Max: 5}); op.Paused || len(op.Leased) != 1 {
		b.t.Fatal("the other destination is held too")
	}
	b.must(b.Store.Pause(b.ctx(), source, billing, true)) // once more
	b.must(b.Store.Pause(b.ctx(), source, billing, false))
	b.must(b.Store.Pause(b.ctx(), source, billing, false))
	if op := b.ask(relay.Lease{Destination: billing, Max: 5}); op.Paused {
		b.t.Fatal("paused still")
	} else {
		b.wantLeased(op.Leased, ev)
	}
	if c := b.count(billing); c.Paused {
		b.t.Fatalf("counts %+v", c)
	}
}

func pauseLasts(b *bench) {
	b.accept("one", billing)
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	b.Reopen()
	if op := b.ask(relay.Lease{Destination: billing, Max: 5}); !op.Paused || len(op.Leased) != 0 {
		b.t.Fatalf("after reopening: paused %v, leased %d", op.Paused, len(op.Leased))
	}
	if c := b.count(billing); !c.Paused {
		b.t.Fatalf("counts %+v", c)
	}
	b.must(b.Store.Pause(b.ctx(), source, billing, false))
	b.Reopen()
	if got := b.lease(billing, 5); len(got) != 1 {
		b.t.Fatalf("released, and leased %d", len(got))
	}
}

func pauseSettles(b *bench) {
	ev, other := b.accept("one", billing), b.accept("two", billing)
	leased := b.lease(billing, 2)
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	b.settleAll(relay.OutcomeDelivered, leased[0])
	b.settleAll(relay.OutcomeRetry, leased[1])
	b.wantState(ev, billing, relay.StateDelivered)
	b.wantState(other, billing, relay.StatePending)
	b.wantCounts(billing, 1, 0, 1, 0)
	b.wantLeased(b.lease(billing, 5))
}

func pauseNew(b *bench) {
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	if c := b.count(billing); !c.Paused {
		b.t.Fatalf("counts %+v", c)
	}
	b.Reopen()
	b.wantDeclined(now(billing))
	if op := b.ask(relay.Lease{Destination: billing, Max: 5}); !op.Paused || len(op.Leased) != 0 {
		b.t.Fatalf("paused %v, leased %d", op.Paused, len(op.Leased))
	}
}
