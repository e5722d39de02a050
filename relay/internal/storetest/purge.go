package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var purgeTests = []test{
	{"after the last settle", purgeSettled},
	{"pending never", purgePending},
	{"dead letters by their own retention", purgeDead},
	{"dead letters kept shorter than the rest", purgeDeadShorter},
	{"around one that stays", purgeAround},
	{"settled late", purgeLate},
	{"settled late, behind one that is not", purgeBehindLate},
	{"replayed meanwhile", purgeReplayed},
	{"after a discard", purgeDiscarded},
	{"what no destination wanted", purgeUnmatched},
	{"in steps", purgeSteps},
	{"many that are pending", purgeManyPending},
	{"a shorter policy", purgeShorter},
	{"records of keys", purgeRecords},
	{"records of keys by a longer window", purgeRecordsLonger},
	{"leaves nothing behind", purgeAll},
}

func policy(retention, letters time.Duration) relay.PurgePolicy {
	p := quick()
	p.Retention, p.DeadLetterRetention = retention, letters
	return p
}

func (b *bench) gone(ev *relay.Event) bool {
	b.t.Helper()
	_, err := b.Store.Event(b.ctx(), ev.ID)
	if err != nil && !errors.Is(err, relay.ErrNotFound) {
		b.t.Fatal(err)
	}
	return err != nil
}

// wantPurged purges and checks how many events, deliveries and dead letters of the usual destination went.
func (b *bench) wantPurged(p relay.PurgePolicy, events, deliveries, letters int) {
	b.t.Helper()
	r := b.purge(p)
	name := relay.DestinationName{Source: source, Destination: billing}
	if r.Events != events || r.Deliveries[name] != deliveries || r.DeadLetters[name] != letters {
		b.t.Fatalf("purged %d events, %v, dead %v; want %d, %d, %d", r.Events, r.Deliveries, r.DeadLetters, events, deliveries, letters)
	}
}

func purgeSettled(b *bench) {
	p := policy(time.Hour, 100*time.Hour)
	ev := b.accept("one", billing, search)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.Advance(50 * time.Minute)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(search, ev))
	b.Advance(time.Hour - slack)
	b.wantPurged(p, 0, 0, 0)
	if b.gone(ev) {
		b.t.Fatal("purged before its time")
	}
	b.Advance(2 * slack)
	r := b.purge(p)
	if r.Events != 1 || r.Deliveries[relay.DestinationName{Source: source, Destination: billing}] != 1 ||
		r.Deliveries[relay.DestinationName{Source: source, Destination: search}] != 1 || len(r.DeadLetters) != 0 {
		b.t.Fatalf("purged %+v", r)
	}
	if !b.gone(ev) {
		b.t.Fatal("still there")
	}
	b.wantCounts(billing, 0, 0, 0, 0)
	b.wantPurged(p, 0, 0, 0)
}

func purgePending(b *bench) {
	ready := b.accept("ready", billing)
	retried, flying := b.accept("retried", billing, search), b.accept("flying", billing)
	leased := b.lease(billing, 3)
	b.settle(relay.Settle{Leased: leased[0], Outcome: relay.OutcomeRelease})
	b.settle(relay.Settle{Leased: leased[1], Outcome: relay.OutcomeRetry, Delay: 1000 * time.Hour, Attempt: attempt(500)})
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(search, retried)) // settled in part
	chain := b.chain(2)
	for _, p := range []relay.PurgePolicy{policy(time.Hour, time.Hour), policy(0, 0)} {
		b.Advance(500 * time.Hour)
		b.wantPurged(p, 0, 0, 0)
	}
	for _, ev := range append(chain, ready, retried, flying) {
		if b.gone(ev) {
			b.t.Fatalf("purged %s, though it is pending", ev.TaskID)
		}
	}
	if got := b.leaseAll(billing); len(got) != 4 { // one of the chain waits for its turn
		b.t.Fatalf("leased %d", len(got))
	}
}

func purgeDead(b *bench) {
	p := policy(time.Hour, 10*time.Hour)
	ev := b.accept("one", billing, search)
	b.settleAll(relay.OutcomeDead, b.leaseOne(billing, ev))
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(search, ev))
	plain := b.accept("two", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, plain))
	b.Advance(2 * time.Hour)
	b.wantPurged(p, 1, 1, 0)
	b.wantCounts(billing, 0, 0, 0, 1)
	b.wantCounts(search, 0, 0, 1, 0)
	b.Advance(8*time.Hour - slack)
	b.wantPurged(p, 0, 0, 0)
	b.Advance(2 * slack)
	b.wantPurged(p, 1, 1, 1)
	b.wantCounts(billing, 0, 0, 0, 0)
	b.wantCounts(search, 0, 0, 0, 0)
	if letters := b.letters(relay.Selection{}); len(letters) != 0 {
		b.t.Fatalf("still listed: %+v", letters)
	}
	if n := b.redrive(relay.Selection{}); n != 0 {
		b.t.Fatalf("redrove %d", n)
	}
}

func purgeDeadShorter(b *bench) {
	p := policy(10*time.Hour, time.Hour)
	b.kill("dead", billing)
	ev := b.accept("delivered", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.Advance(2 * time.Hour)
	b.wantPurged(p, 1, 1, 1)
	b.Advance(9 * time.Hour)
	b.wantPurged(p, 1, 1, 0)
}

func purgeLate(b *bench) {
	p := policy(time.Hour, time.Hour)
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	for range 3 {
		b.Advance(90 * time.Minute)
		b.wantPurged(p, 0, 0, 0)
	}
	b.settleAll(relay.OutcomeDelivered, l)
	b.wantPurged(p, 0, 0, 0)
	b.Advance(time.Hour - slack)
	b.wantPurged(p, 0, 0, 0)
	b.Reopen()
	b.Advance(time.Hour) // a store may look at what it passed over a whole retention later
	b.Advance(slack)
	b.wantPurged(p, 1, 1, 0)
}

func purgeBehindLate(b *bench) {
	p := policy(time.Hour, time.Hour)
	stays, goes := b.accept("stays", billing), b.accept("goes", billing)
	leased := b.leaseAll(billing)
	b.Advance(90 * time.Minute)
	b.wantPurged(p, 0, 0, 0)
	for _, l := range leased {
		if l.Event.ID == goes.ID {
			b.settleAll(relay.OutcomeDelivered, l)
		}
	}
	b.Advance(2 * time.Hour)
	b.wantPurged(p, 1, 1, 0)
	if b.gone(stays) || !b.gone(goes) {
		b.t.Fatal("the wrong one is purged")
	}
}

func purgeAround(b *bench) {
	p := policy(time.Hour, 10*time.Hour)
	var all []*relay.Event
	for n := range 7 {
		all = append(all, b.accept(fmt.Sprint("task-", n), billing, search))
	}
	b.settleAll(relay.OutcomeDelivered, b.leaseAll(search)...)
	for _, l := range b.leaseAll(billing) {
		outcome := relay.OutcomeDelivered
		if l.Event.ID == all[3].ID {
			outcome = relay.OutcomeDead
		}
		b.settleAll(outcome, l)
	}
	b.Advance(2 * time.Hour)
	b.wantPurged(p, 6, 6, 0)
	for n, ev := range all {
		if b.gone(ev) != (n != 3) {
			b.t.Errorf("event %d: gone is %v", n, b.gone(ev))
		}
	}
	r, err := b.Store.Event(b.ctx(), all[3].ID)
	b.must(err)
	for _, d := range r.Deliveries {
		if len(d.Attempts) != 1 {
			b.t.Errorf("what stays has the delivery %+v", d)
		}
	}
	if len(r.Deliveries) != 2 {
		b.t.Errorf("what stays has %d deliveries", len(r.Deliveries))
	}
}

func purgeReplayed(b *bench) {
	p := policy(time.Hour, 10*time.Hour)
	ev := b.accept("one", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.Advance(50 * time.Minute)
	b.replay(ev, 0, 1, 0, billing)
	b.Advance(20 * time.Hour)
	b.wantPurged(p, 0, 0, 0)
	b.settleAll(relay.OutcomeDead, b.leaseOne(billing, ev))
	b.Advance(9 * time.Hour)
	b.wantPurged(p, 0, 0, 0)
	b.redrive(relay.Selection{})
	b.Advance(20 * time.Hour)
	b.wantPurged(p, 0, 0, 0)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.Advance(50 * time.Minute)
	b.wantPurged(p, 0, 0, 0)
	b.Advance(time.Hour + slack)
	b.wantPurged(p, 1, 1, 0)
}

func purgeDiscarded(b *bench) {
	p := policy(time.Hour, 1000*time.Hour)
	dead, orphan := b.kill("dead", billing), b.accept("orphan", billing)
	b.wantPurged(p, 0, 0, 0)
	if n := b.discard(relay.Selection{Source: source, Destination: billing, Orphaned: true}); n != 2 {
		b.t.Fatalf("discarded %d", n)
	}
	b.Advance(2*time.Hour + slack)
	if r := b.purge(p); r.Events != 2 || len(r.Deliveries) != 0 && r.Deliveries[relay.DestinationName{Source: source, Destination: billing}] != 0 {
		b.t.Fatalf("purged %+v", r)
	}
	if !b.gone(dead) || !b.gone(orphan) {
		b.t.Fatal("an event without deliveries stays")
	}
}

func purgeUnmatched(b *bench) {
	ev := b.accept("one")
	b.Advance(time.Hour - slack)
	b.wantPurged(quick(), 0, 0, 0)
	b.Advance(2 * slack)
	b.wantPurged(quick(), 1, 0, 0)
	if !b.gone(ev) {
		b.t.Fatal("still there")
	}
}

func purgeSteps(b *bench) {
	const n = 2*relay.MaxTouched + 100
	events := b.acceptMany(n, to(billing, search)...)
	for _, d := range []string{billing, search} {
		b.settleAll(relay.OutcomeDelivered, b.leaseAll(d)...)
	}
	kept := b.accept("kept", billing)
	b.Advance(2 * time.Hour)
	r := b.purge(quick())
	if r.Events != n || r.Deliveries[relay.DestinationName{Source: source, Destination: billing}] != n ||
		r.Deliveries[relay.DestinationName{Source: source, Destination: search}] != n {
		b.t.Fatalf("purged %+v", r)
	}
	if !b.gone(events[0]) || !b.gone(events[n-1]) || b.gone(kept) {
		b.t.Fatal("purged what it must not, or too little")
	}
	b.wantCounts(billing, 1, 0, 0, 0)
	b.wantCounts(search, 0, 0, 0, 0)
	if left := b.events(relay.EventFilter{}, nil); len(left) != 1 {
		b.t.Fatalf("%d events are left", len(left))
	}
}

// A backlog that is kept does not hide what may go, nor does it keep the purge busy.
func purgeManyPending(b *bench) {
	const n = 450
	b.acceptMany(n, to(billing)...)
	done := b.accept("done", search)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(search, done))
	b.Advance(2 * time.Hour)
	for _, p := range []relay.PurgePolicy{quick(), policy(0, 0)} {
		b.purge(p)
		if !b.gone(done) {
			b.t.Fatal("what lies behind a backlog stays")
		}
		b.wantCounts(billing, n, 0, 0, 0)
	}
	b.settleAll(relay.OutcomeDelivered, b.leaseAll(billing)...)
	b.wantCounts(billing, 0, 0, n, 0)
	b.Advance(2 * time.Hour)
	b.purge(quick())
	b.wantCounts(billing, 0, 0, 0, 0)
}

// A policy holds for what an earlier one has let stay.
func purgeShorter(b *bench) {
	dead := b.kill("dead", billing)
	ev := b.accept("delivered", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.Advance(5 * time.Hour)
	b.wantPurged(policy(2*time.Hour, 1000*time.Hour), 1, 1, 0)
	b.Advance(time.Hour)
	b.wantPurged(policy(2*time.Hour, 3*time.Hour), 1, 1, 1)
	if !b.gone(dead) {
		b.t.Fatal("still there")
	}
}

func purgeRecords(b *bench) {
	const remembered = 1000 * time.Hour // what accepts ask for, so that only a purge forgets
	foreign := newEvent("one")
	foreign.Source = "drums"
	ev := newEvent("one")
	accept := func(ev *relay.Event, want relay.Result) {
		b.t.Helper()
		op := &relay.Accept{Event: repeated(ev), Window: remembered} // with nothing to deliver its event goes soon
		b.apply(&relay.Batch{Accepts: []*relay.Accept{op}})
		if op.Result != want {
			b.t.Fatalf("result %d of %s, want %d", op.Result, ev.Source, want)
		}
	}
	accept(ev, relay.Accepted)
	accept(foreign, relay.Accepted)
	p := policy(time.Hour, time.Hour)
	p.Windows, p.DefaultWindow = map[string]time.Duration{source: 10 * time.Hour}, 20*time.Hour
	b.Advance(9 * time.Hour)
	b.purge(p)
	accept(ev, relay.Duplicate)
	b.Advance(2 * time.Hour)
	b.purge(p)
	accept(ev, relay.Accepted)
	accept(foreign, relay.Duplicate)
	b.Advance(10 * time.Hour)
	b.purge(p)
	accept(foreign, relay.Accepted)
}

// A window that has become longer holds for a key whose event is gone already.
func purgeRecordsLonger(b *bench) {
	ev := b.accept("one")
	p := policy(time.Hour, time.Hour)
	p.Windows[source] = 5 * time.Hour
	b.Advance(2 * time.Hour)
	b.wantPurged(p, 1, 0, 0)
	p.Windows[source] = window
	b.Advance(8 * time.Hour)
	b.purge(p)
	b.wantResult(b.put(repeated(ev)), relay.Duplicate, ev)
	b.Advance(window)
	b.purge(p)
	next := repeated(ev)
	b.wantResult(b.put(next), relay.Accepted, next)
}

func purgeAll(b *bench) {
	for i := range 20 {
		ev := b.accept(fmt.Sprint(i%3), billing)
		b.put(repeated(ev))
		b.put(conflicting(ev, i))
		b.settleAll([]relay.Outcome{relay.OutcomeDead, relay.OutcomeDelivered}[i%2], b.leaseOne(billing, ev))
		b.Advance(time.Minute)
	}
	b.Advance(2 * window)
	b.purge(quick())
	b.Advance(2 * window)
	b.purge(quick())
	b.wantCounts(billing, 0, 0, 0, 0)
	for _, f := range []relay.EventFilter{{}, {Source: source}, {TaskID: "1"}, {State: relay.StateDead}} {
		if left := b.events(f, nil); len(left) != 0 {
			b.t.Fatalf("%d events are left by %+v", len(left), f)
		}
	}
	before := newEvent("next")
	b.put(before, to(billing)...)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, before))
	b.Advance(2 * window)
	b.purge(quick())
	b.Reopen()
	after := b.accept("next", billing)
	if after.Seq <= before.Seq {
		b.t.Fatalf("sequence %d after %d", after.Seq, before.Seq)
	}
}
