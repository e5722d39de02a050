package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var replayTests = []test{
	{"delivered and dead", replaySettled},
	{"what is not settled is skipped", replaySkips},
	{"to a new destination", replayNew},
	{"a variant", replayVariant},
	{"a large variant", replayLargeVariant},
	{"what is not there", replayUnknown},
	{"by many at once", replayConcurrently},
	{"across reopening", replayReopen},
}

// replay replays an event and checks how many that were.
func (b *bench) replay(ev *relay.Event, variant, replayed, skipped int, destinations ...string) {
	b.t.Helper()
	r, s, err := b.Store.Replay(b.ctx(), ev.ID, destinations, variant)
	b.must(err)
	if r != replayed || s != skipped {
		b.t.Fatalf("replayed %d and skipped %d, want %d and %d", r, s, replayed, skipped)
	}
}

func replaySettled(b *bench) {
	ev := b.accept("one", billing, search)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.settle(relay.Settle{Leased: b.leaseOne(search, ev), Outcome: relay.OutcomeDead, Used: true, Attempt: attempt(410), Reason: "given up"})
	b.Advance(time.Hour)
	b.replay(ev, 0, 2, 0, billing, search)
	for i := range 2 {
		for _, d := range []string{billing, search} {
			b.wantCounts(d, 1, 0, 0, 0)
			rec := b.delivery(ev, d)
			if rec.State != relay.StatePending || rec.Tries != 1+i || rec.Replay != 1+i || rec.NextAttempt != 0 || rec.Reason != "" || !rec.DeadAt.IsZero() {
				b.t.Fatalf("read %+v", rec)
			}
			l := b.leaseOne(d, ev)
			if l.Tries != 1+i || l.Used != 0 || l.Replay != 1+i || !bytes.Equal(l.Event.Body, ev.Body) {
				b.t.Fatalf("leased %+v", l)
			}
			b.settleAll(relay.OutcomeDelivered, l)
			b.wantCounts(d, 0, 0, 1, 0)
			if rec := b.delivery(ev, d); rec.Tries != 2+i || len(rec.Attempts) != 2+i {
				b.t.Fatalf("read %+v", rec)
			}
		}
		if i == 0 {
			b.replay(ev, 0, 1, 0, billing)
			b.replay(ev, 0, 1, 0, search)
		}
	}
	if letters := b.letters(relay.Selection{}); len(letters) != 0 {
		b.t.Fatalf("still listed: %+v", letters)
	}
}

func replaySkips(b *bench) {
	ev := b.accept("one", billing, search, "third")
	b.leaseOne(billing, ev)
	b.settleAll(relay.OutcomeDead, b.leaseOne("third", ev))
	b.replay(ev, 0, 1, 2, billing, search, "third")
	b.replay(ev, 0, 0, 3, billing, search, "third")
	b.wantCounts(billing, 0, 1, 0, 0)
	b.wantCounts(search, 1, 0, 0, 0)
	b.wantCounts("third", 1, 0, 0, 0)
	if d := b.delivery(ev, search); d.Replay != 0 {
		b.t.Fatalf("read %+v", d)
	}
	b.wantLeased(b.lease("third", 5), ev)
}

func replayNew(b *bench) {
	ev := b.accept("one", billing)
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	b.replay(ev, 0, 1, 0, search)
	b.wantCounts(billing, 0, 0, 1, 0)
	b.wantCounts(search, 1, 0, 0, 0)
	l := b.leaseOne(search, ev)
	if l.Tries != 0 || l.Used != 0 || l.Replay != 1 {
		b.t.Fatalf("leased %+v", l)
	}
	b.settleAll(relay.OutcomeDelivered, l)
	if r := b.record(ev); len(r.Deliveries) != 2 || r.State() != relay.StateDelivered {
		b.t.Fatalf("read %+v", r)
	}
	// One that no destination wanted, too.
	unmatched := b.accept("two")
	b.replay(unmatched, 0, 1, 0, billing)
	b.wantLeased(b.lease(billing, 5), unmatched)
}

func replayVariant(b *bench)      { b.replayVariant(0) }
func replayLargeVariant(b *bench) { b.replayVariant(70 << 10) }

// replayVariant replays an event with bodies that are so many bytes longer than usual.
func (b *bench) replayVariant(longer int) {
	ev := newEvent("one")
	variants := []*relay.Event{conflicting(ev, 1), conflicting(ev, 2)}
	for i, e := range append(variants, ev) {
		e.Body = append(e.Body, bytes.Repeat([]byte{' ', byte('a' + i)}, longer/2)...)
	}
	b.put(ev, to(billing, search)...)
	for _, v := range variants {
		b.put(v)
	}
	for _, d := range []string{billing, search} {
		b.settleAll(relay.OutcomeDelivered, b.leaseOne(d, ev))
	}
	b.replay(ev, 2, 1, 0, billing)
	if d := b.delivery(ev, billing); d.Variant != 2 {
		b.t.Fatalf("read %+v", d)
	}
	for range 2 { // a retry has the same body
		l := b.leaseOne(billing, ev)
		if l.Event.ID != ev.ID || !bytes.Equal(l.Event.Body, variants[1].Body) || !maps.Equal(l.Event.Headers, variants[1].Headers) {
			b.t.Fatalf("leased %q with %v", l.Event.Body, l.Event.Headers)
		}
		b.settleAll(relay.OutcomeRetry, l)
		b.Reopen()
	}
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	r := b.record(ev)
	if !bytes.Equal(r.Body, ev.Body) || len(r.Variants) != len(variants) {
		b.t.Fatalf("the event's own body reads %q, with %d variants", r.Body, len(r.Variants))
	}
	for i, v := range variants {
		if !bytes.Equal(r.Variants[i].Body, v.Body) {
			b.t.Fatalf("the variant %d reads %q", i+1, r.Variants[i].Body)
		}
	}
	b.replay(ev, 0, 2, 0, billing, search)
	for _, d := range []string{billing, search} {
		if l := b.leaseOne(d, ev); !bytes.Equal(l.Event.Body, ev.Body) {
			b.t.Fatalf("leased %q", l.Event.Body)
		}
	}
}

func replayUnknown(b *bench) {
	ev := b.accept("one", billing)
	b.put(conflicting(ev, 1))
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, ev))
	for _, id := range []string{newEvent("two").ID, "no id", ""} {
		_, _, err := b.Store.Replay(b.ctx(), id, []string{billing}, 0)
		b.wantNotFound(err, fmt.Sprintf("event %q", id))
	}
	for _, variant := range []int{2, relay.MaxVariants + 1, -1} {
		_, _, err := b.Store.Replay(b.ctx(), ev.ID, []string{billing}, variant)
		b.wantNotFound(err, fmt.Sprintf("variant %d of event %q", variant, ev.ID))
	}
	b.wantCounts(billing, 0, 0, 1, 0)
}

func replayConcurrently(b *bench) {
	ev := b.kill("one", billing)
	total := b.together(func(s relay.Store) (int, error) {
		n, _, err := s.Replay(b.ctx(), ev.ID, []string{billing}, 0)
		return n, err
	})
	if total != 1 {
		b.t.Fatalf("replayed %d times", total)
	}
	if l := b.leaseOne(billing, ev); l.Replay != 1 {
		b.t.Fatalf("leased %+v", l)
	}
}

func replayReopen(b *bench) {
	ev := b.kill("one", billing)
	b.replay(ev, 0, 1, 0, billing)
	b.Reopen()
	b.wantCounts(billing, 1, 0, 0, 0)
	if l := b.leaseOne(billing, ev); l.Replay != 1 || l.Tries != 1 || l.Used != 0 {
		b.t.Fatalf("leased %+v", l)
	}
}
