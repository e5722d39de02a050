package storetest

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var replayAllTests = []test{
	{"settled, and new to a destination", replayAllSettled},
	{"spaced", replayAllSpaced},
	{"the first body", replayAllFirstBody},
	{"in the order of their task", replayAllOrdered},
	{"each once, whoever asks", replayAllConcurrently},
	{"not what was replayed since it was asked for", replayAllAsked},
	{"dead letters not redriven since", redriveAsked},
}

// replayAll replays deliveries of events to billing and checks how many that were.
func (b *bench) replayAll(p relay.Pace, replayed, skipped int, events ...*relay.Event) {
	b.t.Helper()
	r, s, err := b.Store.ReplayAll(b.ctx(), source, named(billing, events...), p)
	b.must(err)
	if r != replayed || s != skipped {
		b.t.Fatalf("replayed %d and skipped %d, want %d and %d", r, s, replayed, skipped)
	}
}

func named(destination string, events ...*relay.Event) (names []relay.DeliveryName) {
	for _, ev := range events {
		names = append(names, relay.DeliveryName{EventID: ev.ID, Destination: destination})
	}
	return names
}

func replayAllSettled(b *bench) {
	delivered := b.accept("one", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, delivered))
	dead := b.kill("two", billing)
	flying := b.accept("three", billing)
	b.leaseOne(billing, flying)
	unmatched := b.accept("four")
	foreign := newEvent("five")
	foreign.Source = "drums"
	b.put(foreign)
	b.replayAll(relay.Pace{}, 3, 3, delivered, dead, flying, unmatched, newEvent("unknown"), foreign)
	b.wantCounts(billing, 3, 1, 0, 0)
	for _, ev := range []*relay.Event{delivered, dead, unmatched} {
		if d := b.delivery(ev, billing); d.State != relay.StatePending || d.Replay != 1 {
			b.t.Fatalf("read %+v", d)
		}
	}
	b.replayAll(relay.Pace{}, 0, 3, delivered, dead, unmatched)
	b.settleAll(relay.OutcomeDelivered, b.leaseAll(billing)...)
	b.wantCounts(billing, 0, 1, 3, 0)
	r, s, err := b.Store.ReplayAll(b.ctx(), source, append(named(search, delivered), named("third", dead)...), relay.Pace{})
	b.must(err)
	if r != 2 || s != 0 {
		b.t.Fatalf("replayed %d and skipped %d", r, s)
	}
	b.wantLeased(b.lease(search, 5), delivered)
	b.wantLeased(b.lease("third", 5), dead)
}

func replayAllSpaced(b *bench) {
	events := b.killMany(4)
	b.replayAll(relay.Pace{After: 10 * time.Minute, Every: time.Minute}, 4, 0, events...)
	for i, ev := range events {
		b.wantWithin("the next attempt", b.delivery(ev, billing).NextAttempt, time.Duration(10+i)*time.Minute)
	}
	b.wantLeased(b.lease(billing, 5))
	b.Advance(11 * time.Minute)
	b.wantLeased(b.lease(billing, 5), events[:2]...)
}

func replayAllFirstBody(b *bench) {
	ev := b.accept("one", billing)
	b.put(conflicting(ev, 1))
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.replay(ev, 1, 1, 0, billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.replayAll(relay.Pace{}, 1, 0, ev)
	if l := b.leaseOne(billing, ev); string(l.Event.Body) != string(ev.Body) || l.Replay != 2 {
		b.t.Fatalf("leased %q, replay %d", l.Event.Body, l.Replay)
	}
}

func replayAllOrdered(b *bench) {
	chain := b.chain(3)
	for _, ev := range chain {
		b.settleAll(relay.OutcomeDelivered, b.wantTurn(ev))
	}
	b.replayAll(relay.Pace{}, 3, 0, chain...)
	for _, ev := range chain {
		b.settleAll(relay.OutcomeDelivered, b.wantTurn(ev))
	}
}

func replayAllConcurrently(b *bench) {
	const n = 200
	events := b.killMany(n)
	begun := time.Now()
	total := b.together(8, func(s relay.Store) (int, error) {
		replayed, _, err := s.ReplayAll(b.ctx(), source, named(billing, events...), relay.Pace{Asked: time.Since(begun)})
		return replayed, err
	})
	if total != n {
		b.t.Fatalf("replayed %d, want %d", total, n)
	}
	b.wantCounts(billing, n, 0, 0, 0)
	for _, l := range b.leaseAll(billing) {
		if l.Replay != 1 {
			b.t.Fatalf("leased %+v", l)
		}
	}
}

// What one operator has replayed, and was delivered, before another one's request came to it, is not replayed by that.
func replayAllAsked(b *bench) {
	events := b.killMany(2)
	b.Advance(time.Hour)
	b.replayAll(relay.Pace{}, 1, 0, events[0])
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, events[0]))
	b.Advance(time.Minute)
	b.replayAll(relay.Pace{Asked: 2 * time.Minute}, 1, 1, events...)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, events[1]))
	b.Advance(time.Minute)
	b.replayAll(relay.Pace{Asked: half}, 2, 0, events...)
}

func redriveAsked(b *bench) {
	ev := b.kill("one", billing)
	b.Advance(time.Hour)
	for _, step := range []struct {
		asked time.Duration
		want  int
	}{{0, 1}, {2 * time.Minute, 0}, {half, 1}} {
		n, _, err := b.Store.Redrive(b.ctx(), relay.Selection{Source: source}, relay.Pace{Asked: step.asked}, "")
		b.must(err)
		if n != step.want {
			b.t.Fatalf("redrove %d of what was asked for %v ago, want %d", n, step.asked, step.want)
		}
		if n == 1 {
			b.settleAll(relay.OutcomeDead, b.leaseOne(billing, ev))
			b.Advance(time.Minute)
		}
	}
}
