package storetest

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var expireTests = []test{
	{"what is too old", expireOld},
	{"whether or not it is due, held or paused", expireWaiting},
	{"what is leased is left alone", expireLeased},
	{"a lease that has expired is none", expireLeaseExpired},
	{"what was replayed counts from then", expireReplayed},
	{"in steps", expireSteps},
}

// expire expires all that is older than age.
func (b *bench) expire(age time.Duration) []relay.DeadLetter {
	b.t.Helper()
	var all []relay.DeadLetter
	for range mostPages {
		letters, err := b.Store.Expire(b.ctx(), source, billing, age)
		b.must(err)
		if len(letters) > relay.MaxTouched {
			b.t.Fatalf("one step expired %d", len(letters))
		}
		all = append(all, letters...)
		if len(letters) < relay.MaxTouched {
			return all
		}
	}
	b.t.Fatal("Expire does not end")
	return nil
}

func expireOld(b *bench) {
	old := b.accept("old", billing, search)
	b.Advance(2 * time.Hour)
	young := b.accept("young", billing)
	if letters := b.expire(3 * time.Hour); len(letters) != 0 {
		b.t.Fatalf("expired %+v", letters)
	}
	letters := b.expire(time.Hour)
	if len(letters) != 1 {
		b.t.Fatalf("%d expired, want 1", len(letters))
	}
	want := relay.DeadLetter{
		EventID: old.ID, Source: source, TaskID: "old", Destination: billing, LastError: relay.ErrExpired.Error(), DeadAt: letters[0].DeadAt,
	}
	if letters[0] != want || letters[0].DeadAt.IsZero() {
		b.t.Fatalf("expired %+v\nwant %+v", letters[0], want)
	}
	if d := b.delivery(old, billing); d.State != relay.StateDead || d.Reason != relay.ErrExpired.Error() || d.Tries != 0 || d.DeadAt.IsZero() {
		b.t.Fatalf("read %+v", d)
	}
	if listed := b.letters(relay.Selection{}); len(listed) != 1 || listed[0].LastError != want.LastError || listed[0].EventID != old.ID {
		b.t.Fatalf("listed %+v", listed)
	}
	b.wantCounts(billing, 1, 0, 0, 1)
	b.wantCounts(search, 1, 0, 0, 0)
	b.wantLeased(b.lease(billing, 5), young)
	if letters := b.expire(time.Hour); len(letters) != 0 {
		b.t.Fatalf("expired again %+v", letters)
	}
}

func expireWaiting(b *bench) {
	retried := b.accept("retried", billing)
	b.settle(relay.Settle{Leased: b.leaseOne(billing, retried), Outcome: relay.OutcomeRetry, Delay: 100 * time.Hour, Used: true, Attempt: attempt(503)})
	b.accept("ready", billing)
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	b.Advance(2 * time.Hour)
	b.Reopen()
	letters := b.expire(time.Hour)
	if len(letters) != 2 {
		b.t.Fatalf("%d expired, want 2", len(letters))
	}
	for _, l := range letters {
		if l.EventID == retried.ID && (l.Attempts != 1 || l.LastStatus != 503 || l.LastError != relay.ErrExpired.Error()) {
			b.t.Fatalf("expired %+v", l)
		}
	}
	if d := b.delivery(retried, billing); d.Tries != 1 || len(d.Attempts) != 1 {
		b.t.Fatalf("read %+v", d)
	}
	b.wantCounts(billing, 0, 0, 0, 2)
	b.must(b.Store.Pause(b.ctx(), source, billing, false))
	b.Advance(200 * time.Hour)
	b.wantLeased(b.lease(billing, 5))
	if letters, err := b.Store.Expire(b.ctx(), source, "nobody", 0); err != nil || len(letters) != 0 {
		b.t.Fatalf("of what is not there: %d, %v", len(letters), err)
	}
}

func expireLeased(b *bench) {
	ev := b.accept("one", billing)
	settled := b.accept("two", billing)
	b.Advance(2 * time.Hour)
	l := b.lease(billing, 2)
	b.settleAll(relay.OutcomeDelivered, l[1])
	if letters := b.expire(time.Hour); len(letters) != 0 {
		b.t.Fatalf("expired %+v", letters)
	}
	b.settleAll(relay.OutcomeRetry, l[0])
	if letters := b.expire(time.Hour); len(letters) != 1 || letters[0].EventID != ev.ID {
		b.t.Fatalf("expired %+v", letters)
	}
	b.wantSettled(l[0], ev)
	b.wantState(settled, billing, relay.StateDelivered)
	b.wantCounts(billing, 0, 0, 1, 1)
}

// Nobody may come for a lease of a paused destination whose holder is gone.
func expireLeaseExpired(b *bench) {
	ev := b.accept("one", billing)
	l := b.leaseOne(billing, ev)
	b.must(b.Store.Pause(b.ctx(), source, billing, true))
	b.Advance(time.Hour)
	if letters := b.expire(30 * time.Minute); len(letters) != 1 {
		b.t.Fatalf("%d expired, want 1", len(letters))
	}
	b.wantStale(l, ev)
	b.wantCounts(billing, 0, 0, 0, 1)
}

// A dead letter may be older than its destination's deliveries get: a replay begins anew.
func expireReplayed(b *bench) {
	replayed, redriven := b.kill("replayed", billing), b.kill("redriven", billing)
	b.Advance(2 * time.Hour)
	b.replay(replayed, 0, 2, 0, billing, search)
	b.redrive(relay.Selection{Source: source, Destination: billing})
	if letters := b.expire(time.Hour); len(letters) != 0 {
		b.t.Fatalf("expired %+v", letters)
	}
	for _, l := range append(b.lease(billing, 5), b.lease(search, 5)...) {
		if l.Age > time.Minute {
			b.t.Fatalf("a replayed delivery is %s old", l.Age)
		}
		b.settleAll(relay.OutcomeRetry, l)
	}
	b.Advance(2 * time.Hour)
	if letters := b.expire(time.Hour); len(letters) != 2 {
		b.t.Fatalf("%d expired, want %s and %s", len(letters), replayed.ID, redriven.ID)
	}
}

func expireSteps(b *bench) {
	const n = relay.MaxTouched + 200
	b.acceptMany(n, to(billing)...)
	b.Advance(2 * time.Hour)
	letters, err := b.Store.Expire(b.ctx(), source, billing, time.Hour)
	b.must(err)
	if len(letters) != relay.MaxTouched {
		b.t.Fatalf("the first step expired %d", len(letters))
	}
	b.wantCounts(billing, n-relay.MaxTouched, 0, 0, relay.MaxTouched)
	letters = append(letters, b.expire(time.Hour)...)
	seen := map[string]bool{}
	for _, l := range letters {
		seen[l.EventID] = true
	}
	if len(seen) != n || len(letters) != n {
		b.t.Fatalf("%d letters of %d events, want %d", len(letters), len(seen), n)
	}
	b.wantCounts(billing, 0, 0, 0, n)
}
