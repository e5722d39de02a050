package storetest

import (
	"bytes"
	"maps"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var leaseTests = []test{
	{"in the order of acceptance", amongTasks(leaseOrder)},
	{"carries the event", leaseContent},
	{"next", leaseNext},
	{"retries in the order of their due times", amongTasks(leaseDueOrder)},
	{"after settles and accepts of its batch", leaseBatch},
	{"of what is not there", leaseNothing},
	{"several of one destination in a batch", amongTasks(leaseTwice)},
	{"a long backlog", leaseBacklog},
	{"many workers", leaseConcurrently},
}

func leaseOrder(b *bench) {
	one, two, three := b.accept("one", billing, search), b.accept("two", billing), b.accept("three", billing)
	b.wantLeased(b.lease(billing, 2), one, two)
	b.wantCounts(billing, 1, 2, 0, 0)
	b.wantLeased(b.lease(billing, 2), three)
	b.wantLeased(b.lease(billing, 2))
	b.wantCounts(billing, 0, 3, 0, 0)
	b.wantState(three, billing, relay.StateInFlight)
	b.wantLeased(b.lease(search, 2), one)
}

func leaseContent(b *bench) {
	ev := b.accept("one", billing)
	b.Advance(10 * time.Minute)
	l := b.leaseOne(billing, ev)
	got := l.Event
	if got.ID != ev.ID || got.Source != source || got.TaskID != ev.TaskID || got.Stage != ev.Stage || got.Code != ev.Code || got.Origin != ev.Origin ||
		!got.ReceivedAt.Equal(ev.ReceivedAt) || !maps.Equal(got.Headers, ev.Headers) || !bytes.Equal(got.Body, ev.Body) {
		b.t.Fatalf("leased %+v\nwant %+v", *got, *ev)
	}
	if l.Destination != billing || l.Tries != 0 || l.Used != 0 || l.Replay != 0 || l.Age < 10*time.Minute || l.Age > 10*time.Minute+slack {
		b.t.Fatalf("leased %+v", l)
	}
}

func leaseNext(b *bench) {
	one, two := b.accept("one", billing), b.accept("two", billing)
	op := b.ask(relay.Lease{Destination: billing, Max: 1})
	b.wantLeased(op.Leased, one)
	if op.Next != 0 {
		b.t.Fatalf("next %v, though one more is due", op.Next)
	}
	op2 := b.ask(relay.Lease{Destination: billing, Max: 1})
	b.wantLeased(op2.Leased, two)
	b.wantWithin("next, by the leases' end,", op2.Next, leaseFor)
	b.settle(relay.Settle{Leased: op.Leased[0], Outcome: relay.OutcomeRetry, Delay: 30 * time.Second, Attempt: attempt(500)})
	b.wantWithin("next, by the retry,", b.ask(relay.Lease{Destination: billing, Max: 1}).Next, 30*time.Second)
	b.settleAll(relay.OutcomeDelivered, op2.Leased...)
	b.wantWithin("next, by the retry alone,", b.ask(relay.Lease{Destination: billing, Max: 1}).Next, 30*time.Second)
	b.Advance(31 * time.Second)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, one))
	if op := b.ask(relay.Lease{Destination: billing, Max: 1}); len(op.Leased) != 0 || op.Next >= 0 {
		b.t.Fatalf("leased %d, next %v, though nothing waits", len(op.Leased), op.Next)
	}
}

func leaseDueOrder(b *bench) {
	one, two, three := b.accept("one", billing), b.accept("two", billing), b.accept("three", billing)
	for i, l := range b.lease(billing, 3) {
		delay := []time.Duration{3 * time.Minute, time.Minute, 2 * time.Minute}[i]
		b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeRetry, Delay: delay, Attempt: attempt(500)})
	}
	b.wantCounts(billing, 3, 0, 0, 0)
	b.Advance(time.Minute)
	b.wantLeased(b.lease(billing, 3), two)
	b.Advance(2 * time.Minute)
	b.wantLeased(b.lease(billing, 1), two) // its lease has expired
	b.wantLeased(b.lease(billing, 3), three, one)
}

func leaseBatch(b *bench) {
	one := b.accept("one", billing)
	l := b.leaseOne(billing, one)
	two := newEvent("two")
	lease := &relay.Lease{Source: source, Destination: billing, Max: 5, For: leaseFor}
	b.apply(&relay.Batch{
		Leases:  []*relay.Lease{lease},
		Accepts: []*relay.Accept{{Event: two, Window: window, Deliveries: to(billing)}},
		Settles: []*relay.Settle{{Leased: l, Outcome: relay.OutcomeRelease}},
	})
	if len(lease.Leased) != 2 || lease.Next <= 0 {
		b.t.Fatalf("leased %d, next %v; want both", len(lease.Leased), lease.Next)
	}
	b.wantCounts(billing, 0, 2, 0, 0)
}

func leaseNothing(b *bench) {
	b.accept("one", billing)
	for _, op := range []relay.Lease{{Source: source, Destination: "nobody"}, {Source: "nobody", Destination: billing}} {
		op.Max, op.For = 5, leaseFor
		b.apply(&relay.Batch{Leases: []*relay.Lease{&op}})
		if len(op.Leased) != 0 || op.Next >= 0 || op.Paused {
			b.t.Fatalf("got %+v", op)
		}
	}
	b.apply(&relay.Batch{})
}

func leaseTwice(b *bench) {
	one, two := b.accept("one", billing), b.accept("two", billing)
	first := &relay.Lease{Source: source, Destination: billing, Max: 1, For: leaseFor}
	second := &relay.Lease{Source: source, Destination: billing, Max: 5, For: leaseFor}
	b.apply(&relay.Batch{Leases: []*relay.Lease{first, second}})
	b.wantLeased(first.Leased, one)
	b.wantLeased(second.Leased, two)
}

func leaseBacklog(b *bench) {
	events := b.acceptMany(1200, to(billing)...)
	var got []*relay.Leased
	for len(got) < len(events) {
		op := b.ask(relay.Lease{Destination: billing, Max: 70})
		if len(op.Leased) == 0 {
			b.t.Fatalf("nothing more after %d", len(got))
		}
		got = append(got, op.Leased...)
		if more := len(got) < len(events); more != (op.Next == 0) {
			b.t.Fatalf("next %v after %d of %d", op.Next, len(got), len(events))
		}
	}
	b.wantLeased(got, events...)
	b.settleAll(relay.OutcomeDelivered, got...)
	b.wantCounts(billing, 0, 0, 1200, 0)
}

func leaseConcurrently(b *bench) {
	const workers, n = 8, 400
	b.acceptMany(n, to(billing)...)
	stores := []relay.Store{b.Store}
	if b.Another != nil {
		stores = append(stores, b.Another())
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			batch := &relay.Batch{}
			for {
				op := &relay.Lease{Source: source, Destination: billing, Max: 7, For: leaseFor}
				batch.Leases = []*relay.Lease{op}
				stores[w%len(stores)].Apply(b.ctx(), batch)
				for _, s := range batch.Settles {
					if s.Err != nil {
						b.t.Error(s.Err)
						return
					}
				}
				if op.Err != nil {
					b.t.Error(op.Err)
					return
				}
				if len(op.Leased) == 0 {
					return
				}
				batch = &relay.Batch{}
				mu.Lock()
				for _, l := range op.Leased {
					seen[l.Event.ID]++
					batch.Settles = append(batch.Settles, &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: attempt(200)})
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, times := range seen {
		if times != 1 {
			b.t.Errorf("%s was leased %d times", id, times)
		}
	}
	if len(seen) != n {
		b.t.Errorf("leased %d of %d", len(seen), n)
	}
	b.wantCounts(billing, 0, 0, n, 0)
}
