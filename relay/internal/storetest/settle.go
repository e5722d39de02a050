package storetest

import (
	"bytes"
	"errors"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var settleTests = []test{
	{"delivered", settleDelivered},
	{"retry", settleRetry},
	{"dead", settleDead},
	{"dead for a reason of its own", settleDeadReason},
	{"release", settleRelease},
	{"attempts are read back", settleAttempts},
	{"without an attempt", settleWithout},
	{"one of several fails", settleMixed},
	{"state of the event", settleEventState},
}

func settleDelivered(b *bench) {
	ev := b.accept("one", billing)
	op := b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: relay.OutcomeDelivered, Used: true, Attempt: attempt(204)})
	if op.Unblocked {
		b.t.Fatal("unblocked what was not blocked")
	}
	if d := b.delivery(ev, billing); d.State != relay.StateDelivered || d.Tries != 1 || len(d.Attempts) != 1 || d.NextAttempt != 0 || !d.DeadAt.IsZero() {
		b.t.Fatalf("read %+v", d)
	}
	b.wantCounts(billing, 0, 0, 1, 0)
	b.Advance(window)
	b.wantLeased(b.lease(billing, 5))
}

func settleRetry(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeRetry, Delay: 5 * time.Minute, Used: true, Attempt: attempt(503)})
	b.wantCounts(billing, 1, 0, 0, 0)
	d := b.delivery(ev, billing)
	if d.State != relay.StatePending || d.Tries != 1 {
		b.t.Fatalf("read %+v", d)
	}
	b.wantWithin("the next attempt", d.NextAttempt, 5*time.Minute)
	b.Advance(5*time.Minute - slack)
	b.wantLeased(b.lease(billing, 5))
	b.Advance(slack)
	l = b.leaseOne(billing, ev)
	if l.Tries != 1 || l.Used != 1 {
		b.t.Fatalf("leased %+v", l)
	}
	b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeRetry, Attempt: attempt(503)}) // at once, and free
	l = b.leaseOne(billing, ev)
	if l.Tries != 2 || l.Used != 1 {
		b.t.Fatalf("leased %+v", l)
	}
	b.settle(relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Used: true, Attempt: attempt(200)})
	if d := b.delivery(ev, billing); d.Tries != 3 || len(d.Attempts) != 3 || d.State != relay.StateDelivered {
		b.t.Fatalf("read %+v", d)
	}
	b.wantCounts(billing, 0, 0, 1, 0)
}

func settleDead(b *bench) {
	ev := b.accept("one", billing)
	b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: relay.OutcomeDead, Used: true, Attempt: attempt(410)})
	b.wantCounts(billing, 0, 0, 0, 1)
	d := b.delivery(ev, billing)
	if d.State != relay.StateDead || d.Tries != 1 || d.DeadAt.IsZero() || d.Reason != "" {
		b.t.Fatalf("read %+v", d)
	}
	letters := b.letters(relay.Selection{})
	if len(letters) != 1 {
		b.t.Fatalf("%d dead letters", len(letters))
	}
	want := relay.DeadLetter{EventID: ev.ID, Source: source, TaskID: "one", Destination: billing, Attempts: 1, LastStatus: 410, DeadAt: letters[0].DeadAt}
	if letters[0] != want || !letters[0].DeadAt.Equal(d.DeadAt) {
		b.t.Fatalf("listed %+v\nwant %+v", letters[0], want)
	}
	b.Advance(30 * window)
	b.wantLeased(b.lease(billing, 5))
}

func settleDeadReason(b *bench) {
	ev := b.accept("one", billing)
	failed := &relay.Attempt{At: attempt(0).At, Error: "connection refused"}
	b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: relay.OutcomeRetry, Used: true, Attempt: failed})
	if letters := b.letters(relay.Selection{}); len(letters) != 0 {
		b.t.Fatalf("listed %+v", letters)
	}
	b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: relay.OutcomeDead, Reason: relay.ErrExpired.Error()})
	if d := b.delivery(ev, billing); d.Reason != relay.ErrExpired.Error() || d.Tries != 1 || len(d.Attempts) != 1 {
		b.t.Fatalf("read %+v", d)
	}
	if l := b.letters(relay.Selection{})[0]; l.LastError != relay.ErrExpired.Error() || l.Attempts != 1 || l.LastStatus != 0 {
		b.t.Fatalf("listed %+v", l)
	}
	// Where the last attempt says it, that is the error.
	ev = b.accept("two", billing)
	b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: relay.OutcomeDead, Used: true, Attempt: failed})
	if l := b.letters(relay.Selection{})[0]; l.LastError != "connection refused" {
		b.t.Fatalf("listed %+v", l)
	}
}

func settleRelease(b *bench) {
	ev := b.accept("one", billing)
	b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: relay.OutcomeRelease})
	b.wantCounts(billing, 1, 0, 0, 0)
	if d := b.delivery(ev, billing); d.State != relay.StatePending || d.Tries != 0 || len(d.Attempts) != 0 || d.NextAttempt != 0 {
		b.t.Fatalf("read %+v", d)
	}
	l := b.leaseOne(billing, ev)
	if l.Tries != 0 || l.Used != 0 {
		b.t.Fatalf("leased %+v", l)
	}
	b.settleAll(relay.OutcomeDelivered, l)
}

func settleAttempts(b *bench) {
	ev := b.accept("one", billing, search)
	at := time.Date(2026, 5, 6, 7, 8, 9, 10e6, time.UTC)
	long := bytes.Repeat([]byte{0, 0xff, 'x', '"'}, 1024)
	want := []relay.Attempt{
		{At: at, Duration: 15 * time.Second, Error: "timeout"},
		{At: at.Add(time.Minute), Duration: 7 * time.Millisecond, Status: 500, Response: long},
		{At: at.Add(time.Hour), Duration: 0, Status: 503, Error: "unexpected EOF", Response: []byte("½")},
		{At: at.Add(2 * time.Hour), Duration: time.Millisecond, Status: 200},
	}
	for i := range want {
		outcome := relay.OutcomeRetry
		if i == len(want)-1 {
			outcome = relay.OutcomeDelivered
		}
		b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: outcome, Used: true, Attempt: &want[i]})
		b.Reopen()
	}
	got := b.delivery(ev, billing).Attempts
	if len(got) != len(want) {
		b.t.Fatalf("%d attempts, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if !g.At.Equal(w.At) || g.Duration != w.Duration || g.Status != w.Status || g.Error != w.Error || !bytes.Equal(g.Response, w.Response) {
			b.t.Errorf("attempt %d reads %+v\nwant %+v", i+1, g, w)
		}
	}
	if d := b.delivery(ev, search); d.Tries != 0 || len(d.Attempts) != 0 {
		b.t.Errorf("the other destination has %+v", d)
	}
}

func settleWithout(b *bench) {
	ev := b.accept("one", billing)
	b.settle(relay.Settle{Leased: b.leaseOne(billing, ev), Outcome: relay.OutcomeDelivered})
	if d := b.delivery(ev, billing); d.State != relay.StateDelivered || d.Tries != 0 || len(d.Attempts) != 0 {
		b.t.Fatalf("read %+v", d)
	}
}

// A settle that is refused leaves the rest of its batch as it is.
func settleMixed(b *bench) {
	one, two := b.accept("one", billing), b.accept("two", billing)
	leased := b.lease(billing, 2)
	stale := *leased[0]
	stale.Token += 1 << 40
	never := &relay.Leased{Event: newEvent("never"), Destination: billing, Token: 1}
	nowhere := &relay.Leased{Event: one, Destination: "nowhere", Token: leased[0].Token}
	third := newEvent("three")
	batch := &relay.Batch{
		Settles: []*relay.Settle{
			{Leased: &stale, Outcome: relay.OutcomeDead},
			{Leased: never, Outcome: relay.OutcomeDead},
			{Leased: nowhere, Outcome: relay.OutcomeDead},
			{Leased: leased[1], Outcome: relay.OutcomeDelivered, Attempt: attempt(200)},
		},
		Accepts: []*relay.Accept{{Event: third, Window: window, Deliveries: to(billing)}},
		Leases:  []*relay.Lease{{Source: source, Destination: billing, Max: 5, For: leaseFor}},
	}
	b.Store.Apply(b.ctx(), batch)
	for _, op := range batch.Settles[:3] {
		if !errors.Is(op.Err, relay.ErrLeaseLost) {
			b.t.Fatalf("a stale settle returns %v", op.Err)
		}
	}
	b.must(batch.Settles[3].Err)
	b.must(batch.Accepts[0].Err)
	b.must(batch.Leases[0].Err)
	b.wantLeased(batch.Leases[0].Leased, third)
	b.wantState(one, billing, relay.StateInFlight)
	b.wantState(two, billing, relay.StateDelivered)
	b.wantCounts(billing, 0, 2, 1, 0)
}

func settleEventState(b *bench) {
	ev := b.accept("one", billing, search)
	for _, step := range []struct {
		destination string
		outcome     relay.Outcome
		want        relay.State
	}{
		{billing, relay.OutcomeDead, relay.StatePending},
		{search, relay.OutcomeRetry, relay.StatePending},
		{search, relay.OutcomeDelivered, relay.StateDead},
	} {
		b.settleAll(step.outcome, b.leaseOne(step.destination, ev))
		if got := b.record(ev).State(); got != step.want {
			b.t.Fatalf("the event is %s, want %s", got, step.want)
		}
	}
}
