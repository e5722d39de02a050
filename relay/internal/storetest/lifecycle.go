package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var lifecycleTests = []test{
	{"empty", lifecycleEmpty},
	{"reopening keeps everything", lifecycleReopen},
	{"a backlog has an age from the start", lifecycleOldest},
	{"time goes on", lifecycleTime},
	{"after close", lifecycleClosed},
	{"close among calls", lifecycleClosing},
	{"several clients", lifecycleClients},
}

func lifecycleEmpty(b *bench) {
	for _, c := range b.Store.Counts() {
		b.t.Errorf("counts %+v", c)
	}
	b.must(b.Store.Health(b.ctx()))
	if b.Store.Info().Driver == "" {
		b.t.Error("a store without a driver")
	}
	b.wantPurged(quick(), 0, 0, 0)
	if letters := b.letters(relay.Selection{}); len(letters) != 0 {
		b.t.Errorf("listed %+v", letters)
	}
	if n := b.redrive(relay.Selection{}) + b.discard(relay.Selection{}) + len(b.expire(0)); n != 0 {
		b.t.Errorf("found %d of nothing", n)
	}
	b.Reopen()
	b.must(b.Store.Health(b.ctx()))
}

// snapshot is all that a store shows, but for what moves with the clock.
func (b *bench) snapshot(events []*relay.Event) string {
	b.t.Helper()
	var all strings.Builder
	for _, ev := range events {
		r := *b.record(ev)
		r.ReceivedAt = r.ReceivedAt.UTC()
		for i, d := range r.Deliveries {
			r.Deliveries[i].NextAttempt = 0
			r.Deliveries[i].DeadAt = d.DeadAt.UTC()
			for j, a := range d.Attempts {
				r.Deliveries[i].Attempts[j].At = a.At.UTC()
			}
		}
		fmt.Fprintf(&all, "%+v\n", r)
	}
	for _, l := range b.letters(relay.Selection{Source: source}) {
		l.DeadAt = l.DeadAt.UTC()
		fmt.Fprintf(&all, "%+v\n", l)
	}
	for _, d := range []string{billing, search, "third"} {
		c := b.count(d)
		c.OldestPending, c.LeaseExpired = 0, 0
		fmt.Fprintf(&all, "%+v\n", c)
	}
	return all.String()
}

// A backlog does not look young because the process is.
func lifecycleOldest(b *bench) {
	b.accept("old", billing, search)
	b.Advance(time.Hour)
	b.accept("young", billing)
	b.settleAll(relay.OutcomeDelivered, b.lease(search, 1)...)
	b.Reopen()
	ages := map[string]time.Duration{}
	for _, c := range b.Store.Counts() {
		ages[c.Destination] = c.OldestPending
	}
	if age := ages[billing]; age < time.Hour || age > time.Hour+slack {
		b.t.Errorf("the oldest of a backlog is %v old", age)
	}
	if age := ages[search]; age != 0 {
		b.t.Errorf("the oldest is %v old where nothing waits", age)
	}
}

func lifecycleReopen(b *bench) {
	var events []*relay.Event
	for i := range 12 {
		ev := b.acceptNew("task", append(to(billing, search), ordered("third")...)...)
		events = append(events, ev)
		b.put(repeated(ev))
		b.put(conflicting(ev, i))
		outcome := []relay.Outcome{relay.OutcomeDelivered, relay.OutcomeDead, relay.OutcomeRetry, relay.OutcomeRelease}[i%4]
		l := b.leaseOneOf(ev)
		op := relay.Settle{Leased: l, Outcome: outcome, Delay: time.Hour, Used: true, Attempt: attempt(200 + i)}
		if outcome == relay.OutcomeRelease {
			op.Attempt, op.Used = nil, false
		}
		b.settle(op)
	}
	b.replay(events[0], 1, 1, 0, billing)
	b.must(b.Store.Pause(b.ctx(), source, search, true))
	before := b.snapshot(events)
	for range 2 {
		b.Reopen()
		if after := b.snapshot(events); after != before {
			b.t.Fatalf("was\n%s\nis\n%s", before, after)
		}
	}
}

func lifecycleTime(b *bench) {
	ev := b.accept("one", billing)
	b.retryAfter(b.leaseOne(billing, ev), time.Hour)
	b.Advance(20 * time.Minute)
	b.Reopen()
	b.wantWithin("next", b.ask(relay.Lease{Destination: billing, Max: 1}).Next, 40*time.Minute)
	b.Advance(20 * time.Minute)
	b.Reopen()
	b.Advance(20 * time.Minute)
	if l := b.leaseOne(billing, ev); l.Age < time.Hour || l.Age > time.Hour+slack {
		b.t.Fatalf("age %v", l.Age)
	}
}

// calls are all methods that can fail, each with what it fails with.
func calls(s relay.Store, ctx context.Context, ev *relay.Event, l *relay.Leased) map[string]error {
	batch := &relay.Batch{
		Settles: []*relay.Settle{{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: attempt(200)}},
		Accepts: []*relay.Accept{{Event: newEvent("late"), Window: window, Deliveries: to(billing)}},
		Leases:  []*relay.Lease{{Source: source, Destination: billing, Max: 1, For: leaseFor}},
	}
	s.Apply(ctx, batch)
	errs := map[string]error{"settle": batch.Settles[0].Err, "accept": batch.Accepts[0].Err, "lease": batch.Leases[0].Err}
	_, _, errs["Events"] = s.Events(ctx, relay.EventFilter{})
	_, errs["Event"] = s.Event(ctx, ev.ID)
	_, _, errs["DeadLetters"] = s.DeadLetters(ctx, relay.Selection{}, 5, "")
	_, _, errs["Replay"] = s.Replay(ctx, ev.ID, []string{billing}, 0)
	_, _, errs["ReplayAll"] = s.ReplayAll(ctx, source, named(billing, ev), relay.Pace{})
	_, _, errs["Reassign"] = s.Reassign(ctx, "nobody", billing, search, "")
	_, _, errs["Redrive"] = s.Redrive(ctx, relay.Selection{}, relay.Pace{}, "")
	_, _, errs["Discard"] = s.Discard(ctx, relay.Selection{Source: "nobody"}, "")
	errs["Pause"] = s.Pause(ctx, source, search, false)
	_, errs["Expire"] = s.Expire(ctx, source, billing, 1000*time.Hour)
	_, errs["Purge"] = s.Purge(ctx, policy(1000*time.Hour, 1000*time.Hour))
	errs["Expect"] = s.Expect(ctx, expectation("late"))
	_, _, errs["LeaseTasks"] = s.LeaseTasks(ctx, &relay.TaskLease{Source: "nobody", Max: 1, For: leaseFor})
	errs["SettleTask"] = s.SettleTask(ctx, &relay.TaskSettle{Source: source, TaskID: "nobody's"})
	_, _, errs["Tasks"] = s.Tasks(ctx, relay.TaskFilter{})
	errs["Health"] = s.Health(ctx)
	s.Counts()
	s.Info()
	return errs
}

func lifecycleClosed(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.must(b.Store.Close())
	for name, err := range calls(b.Store, b.ctx(), ev, l) {
		if !errors.Is(err, relay.ErrClosed) {
			b.t.Errorf("%s returns %v", name, err)
		}
	}
	b.must(b.Store.Close())
	b.Reopen()
	if r := b.events(relay.EventFilter{}, nil); len(r) != 1 {
		b.t.Errorf("%d events", len(r))
	}
}

func lifecycleClosing(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 4 {
		wg.Go(func() {
			for first := true; ; first = false {
				errs := calls(b.Store, b.ctx(), ev, l)
				if first {
					started <- struct{}{}
				}
				for name, err := range errs {
					if err != nil && !errors.Is(err, relay.ErrClosed) && !errors.Is(err, relay.ErrLeaseLost) {
						b.t.Errorf("%s returns %v", name, err)
						return
					}
				}
				if errs["accept"] != nil {
					return
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	b.must(b.Store.Close())
	wg.Wait()
	b.Reopen()
	b.must(b.Store.Health(b.ctx()))
}

// lifecycleClients has two clients of the same data do one thing after the other.
func lifecycleClients(b *bench) {
	if b.Another == nil {
		b.t.Skip("the store belongs to one process")
	}
	mine, other := b.Store, b.Another()
	as := func(s relay.Store) *bench {
		h := *b.Harness
		h.Store = s
		return &bench{Harness: &h, t: b.t}
	}
	ev := as(mine).accept("one", billing)
	as(other).wantResult(as(other).put(repeated(ev), to(billing)...), relay.Duplicate, ev)
	l := as(other).leaseOne(billing, ev)
	as(mine).wantLeased(as(mine).lease(billing, 5))
	if a, b := as(mine).record(ev), as(other).record(ev); !reflect.DeepEqual(a, b) {
		as(mine).t.Fatalf("one reads %+v, the other %+v", a, b)
	}
	as(mine).settleAll(relay.OutcomeDead, l) // a lease may be settled by anyone who has its token
	as(other).must(other.Pause(b.ctx(), source, billing, true))
	as(mine).replay(ev, 0, 1, 0, billing)
	if op := as(mine).ask(relay.Lease{Destination: billing, Max: 5}); !op.Paused {
		b.t.Fatal("the other client's pause is not obeyed")
	}
	as(mine).wantDeclined(now(billing))
	as(mine).must(mine.Pause(b.ctx(), source, billing, false))
	if got := as(other).lease(billing, 5); len(got) != 2 {
		b.t.Fatalf("leased %d", len(got))
	}
	for _, s := range []relay.Store{mine, other} {
		as(s).wantCounts(billing, 0, 2, 0, 0)
	}
	b.must(other.Close())
	b.must(mine.Health(b.ctx()))
}
