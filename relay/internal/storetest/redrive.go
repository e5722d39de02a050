package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var redriveTests = []test{
	{"dead letters alone", redriveDead},
	{"spaced, oldest first", redriveSpaced},
	{"oldest first in several destinations", redriveSeveral},
	{"in steps", redriveSteps},
	{"each once, whoever asks", redriveConcurrently},
	{"by the time they were given up", redriveSpan},
	{"by source and destination", redriveSelection},
	{"with the body of the replay", redriveVariant},
}

// together calls f in eight goroutines, and of every client, and adds up what it returns.
func (b *bench) together(f func(s relay.Store) (int, error)) int {
	b.t.Helper()
	stores := []relay.Store{b.Store}
	if b.Another != nil {
		stores = append(stores, b.Another())
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := 0
	for i := range 8 {
		wg.Go(func() {
			n, err := f(stores[i%len(stores)])
			if err != nil {
				b.t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	wg.Wait()
	return total
}

// redrive redrives all of a selection at once.
func (b *bench) redrive(s relay.Selection) int {
	b.t.Helper()
	total, cursor := 0, ""
	for range mostPages {
		n, next, err := b.Store.Redrive(b.ctx(), s, relay.Pace{}, cursor)
		b.must(err)
		total += n
		if cursor = next; next == "" {
			return total
		}
	}
	b.t.Fatal("Redrive does not end")
	return 0
}

func redriveDead(b *bench) {
	dead := b.kill("dead", billing)
	delivered := b.accept("delivered", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, delivered))
	flying := b.accept("flying", billing)
	b.leaseOne(billing, flying)
	b.accept("pending", billing)
	if n := b.redrive(relay.Selection{Source: source}); n != 1 {
		b.t.Fatalf("redrove %d", n)
	}
	b.wantCounts(billing, 2, 1, 1, 0)
	if d := b.delivery(dead, billing); d.State != relay.StatePending || d.Replay != 1 || d.Tries != 1 || !d.DeadAt.IsZero() || d.Reason != "" {
		b.t.Fatalf("read %+v", d)
	}
	if n := b.redrive(relay.Selection{}); n != 0 {
		b.t.Fatalf("redrove %d, though nothing is dead", n)
	}
	l := b.leaseOneOf(dead)
	if l.Used != 0 || l.Tries != 1 || l.Replay != 1 {
		b.t.Fatalf("leased %+v", l)
	}
	b.settleAll(relay.OutcomeDead, l)
	if n := b.redrive(relay.Selection{}); n != 1 {
		b.t.Fatalf("redrove %d", n)
	}
}

func redriveSpaced(b *bench) {
	var events []*relay.Event
	for i := range 5 {
		events = append(events, b.kill(fmt.Sprint("task-", i), billing))
	}
	n, _, err := b.Store.Redrive(b.ctx(), relay.Selection{Source: source, Destination: billing}, relay.Pace{After: 10 * time.Minute, Every: time.Minute}, "")
	b.must(err)
	if n != 5 {
		b.t.Fatalf("redrove %d", n)
	}
	for i, ev := range events {
		b.wantWithin("the next attempt", b.delivery(ev, billing).NextAttempt, 10*time.Minute+time.Duration(i)*time.Minute)
	}
	b.wantLeased(b.lease(billing, 5))
	b.Advance(10 * time.Minute)
	for _, ev := range events {
		b.settleAll(relay.OutcomeDelivered, b.wantTurn(ev))
		b.Advance(time.Minute)
	}
}

func redriveSeveral(b *bench) {
	var events []*relay.Event
	var destinations []string
	for range 4 {
		for _, d := range []string{search, billing, "third"} {
			events, destinations = append(events, b.kill("one", d)), append(destinations, d)
		}
	}
	n, _, err := b.Store.Redrive(b.ctx(), relay.Selection{Source: source}, relay.Pace{Every: time.Minute}, "")
	b.must(err)
	if n != len(events) {
		b.t.Fatalf("redrove %d", n)
	}
	for i, ev := range events[1:] {
		b.wantWithin("the next attempt", b.delivery(ev, destinations[i+1]).NextAttempt, time.Duration(i+1)*time.Minute)
	}
}

func redriveSteps(b *bench) {
	const n, every = relay.MaxTouched + 100, 20 * time.Second
	oldest := b.kill("oldest", billing)
	others := b.killMany(n - 1)
	sel := relay.Selection{Source: source, Destination: billing}
	first, next, err := b.Store.Redrive(b.ctx(), sel, relay.Pace{Every: every}, "")
	b.must(err)
	if first != relay.MaxTouched || next == "" {
		b.t.Fatalf("the first step redrove %d, and goes on at %q", first, next)
	}
	b.wantCounts(billing, relay.MaxTouched, 0, 0, n-relay.MaxTouched)
	// What dies again meanwhile is not redriven twice.
	b.settleAll(relay.OutcomeDead, b.wantTurn(oldest))
	second, next, err := b.Store.Redrive(b.ctx(), sel, relay.Pace{After: time.Duration(first) * every, Every: every}, next)
	b.must(err)
	if second != n-relay.MaxTouched || next != "" {
		b.t.Fatalf("the second step redrove %d, and goes on at %q", second, next)
	}
	b.wantCounts(billing, n-1, 0, 0, 1)
	if !b.Parted {
		b.wantWithin("the last one's next attempt", b.delivery(others[n-2], billing).NextAttempt, (n-1)*every)
	}
	b.Advance(n * every)
	b.wantLeased(b.leaseAll(billing), others...)
}

func redriveOnce(b *bench, s relay.Store) (int, error) {
	n, _, err := s.Redrive(b.ctx(), relay.Selection{Source: source}, relay.Pace{}, "")
	return n, err
}

func redriveConcurrently(b *bench) {
	const n = 300
	events := b.killMany(n)
	if total := b.together(func(s relay.Store) (int, error) { return redriveOnce(b, s) }); total != n {
		b.t.Fatalf("redrove %d, want %d", total, n)
	}
	b.wantCounts(billing, n, 0, 0, 0)
	got := b.leaseAll(billing)
	for _, l := range got {
		if l.Replay != 1 {
			b.t.Fatalf("leased %+v", l)
		}
	}
	if len(got) != len(events) {
		b.t.Fatalf("leased %d of %d", len(got), len(events))
	}
}

// deaths makes three dead letters, a minute apart, and returns the times at which they were given up.
func (b *bench) deaths() (events []*relay.Event, times []time.Time) {
	b.t.Helper()
	for range 3 {
		ev := b.kill("one", billing)
		events, times = append(events, ev), append(times, b.delivery(ev, billing).DeadAt)
		b.Advance(time.Minute)
	}
	return events, times
}

func redriveSpan(b *bench) {
	events, at := b.deaths()
	for _, step := range []struct {
		sel  relay.Selection
		want []*relay.Event
	}{
		{relay.Selection{Since: at[2].Add(time.Second)}, nil},
		{relay.Selection{Until: at[0]}, nil},
		{relay.Selection{Since: at[1], Until: at[2]}, events[1:2]},
		{relay.Selection{Since: at[1]}, events[2:]},
		{relay.Selection{Until: at[2]}, events[:1]},
	} {
		if n := len(b.letters(step.sel)); n != len(step.want) {
			b.t.Fatalf("listed %d, want %d", n, len(step.want))
		}
		if n := b.redrive(step.sel); n != len(step.want) {
			b.t.Fatalf("redrove %d, want %d", n, len(step.want))
		}
		b.wantLeased(b.lease(billing, 5), step.want...)
	}
}

func redriveSelection(b *bench) {
	b.kill("one", billing)
	b.kill("two", search)
	foreign := newEvent("three")
	foreign.Source = "drums"
	b.put(foreign, to(billing)...)
	lease := &relay.Lease{Source: "drums", Destination: billing, Max: 1, For: leaseFor}
	b.apply(&relay.Batch{Leases: []*relay.Lease{lease}})
	b.settleAll(relay.OutcomeDead, lease.Leased...)
	for _, step := range []struct {
		sel  relay.Selection
		want int
	}{
		{relay.Selection{Source: "nobody"}, 0},
		{relay.Selection{Source: "drums", Destination: search}, 0},
		{relay.Selection{Source: source, Destination: search}, 1},
		{relay.Selection{Destination: billing}, 2},
		{relay.Selection{}, 0},
	} {
		if n := len(b.letters(step.sel)); n != step.want {
			b.t.Fatalf("listed %d of %+v, want %d", n, step.sel, step.want)
		}
		if n := b.redrive(step.sel); n != step.want {
			b.t.Fatalf("redrove %d of %+v, want %d", n, step.sel, step.want)
		}
	}
}

// A dead letter goes on with what it was to send.
func redriveVariant(b *bench) {
	ev := b.accept("one", billing)
	other := conflicting(ev, 1)
	b.put(other)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.replay(ev, 1, 1, 0, billing)
	b.settleAll(relay.OutcomeDead, b.leaseOne(billing, ev))
	b.redrive(relay.Selection{})
	if l := b.leaseOne(billing, ev); string(l.Event.Body) != string(other.Body) || l.Replay != 2 {
		b.t.Fatalf("leased %q, replay %d", l.Event.Body, l.Replay)
	}
}
