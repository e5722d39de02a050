package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var filesTests = []test{
	{"kept whatever the outcome", filesOutcomes},
	{"one per field", filesField},
	{"no more than some", filesMost},
	{"of a lease that is lost", filesLost},
	{"leased with what waited", filesBehind},
	{"purged with the event", filesPurge},
}

// file makes a file whose values tell it from others.
func file(field string, n int64) relay.File {
	return relay.File{
		Field: field, URL: fmt.Sprintf("https://cdn.example/%d?a=1&b=<2>", n), Object: fmt.Sprintf("vocals/2026/%d \u00e9\n.mp3", n),
		ContentType: "audio/mpeg", Size: 1<<40 + n, SHA256: strings.Repeat("ab", 32),
	}
}

func (b *bench) wantFiles(what string, got []relay.File, want ...relay.File) {
	b.t.Helper()
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		b.t.Fatalf("%s: %+v\nwant %+v", what, got, want)
	}
}

// store settles an attempt that has stored files.
func (b *bench) store(l *relay.Leased, outcome relay.Outcome, files ...relay.File) {
	b.t.Helper()
	b.settle(relay.Settle{Leased: l, Outcome: outcome, Attempt: attempt(0), Files: files})
}

func filesOutcomes(b *bench) {
	ev := b.accept("one", awaited, billing)
	l := b.leaseOne(awaited, ev)
	b.wantFiles("of a new event", l.Files)
	first, second, third := file("data.a", 1), file("data.b", 2), file("data.c", 3)
	b.store(l, relay.OutcomeRetry, second)
	b.wantFiles("after a retry", b.record(ev).Files, second)
	b.Reopen()
	l = b.leaseOne(awaited, ev)
	b.wantFiles("leased again", l.Files, second)
	b.store(l, relay.OutcomeDead, first)
	b.replay(ev, 0, 1, 0, awaited)
	l = b.leaseOne(awaited, ev)
	b.wantFiles("leased after its death", l.Files, first, second)
	b.store(l, relay.OutcomeDelivered, third)
	b.wantFiles("at the end", b.record(ev).Files, first, second, third)
	b.wantFiles("leased by who did not wait", b.leaseOne(billing, ev).Files)
	if d := b.delivery(ev, awaited); d.Tries != 3 || len(d.Attempts) != 3 {
		b.t.Fatalf("read %+v", d)
	}
	list, _, err := b.Store.Events(b.ctx(), relay.EventFilter{})
	b.must(err)
	b.wantFiles("in a list", list[0].Files)
}

func filesField(b *bench) {
	ev := b.accept("one", awaited)
	// Of these fields one is like the other's beginning.
	b.store(b.leaseOne(awaited, ev), relay.OutcomeRetry, file("a", 1), file("a\"b", 2), file("a", 3), file("ab", 4))
	b.store(b.leaseOne(awaited, ev), relay.OutcomeRetry, file("a", 5))
	b.wantFiles("kept", b.record(ev).Files, file("a", 5), file("a\"b", 2), file("ab", 4))
}

func filesMost(b *bench) {
	ev := b.accept("one", awaited)
	var files []relay.File
	for i := range int64(relay.MaxFiles + 2) {
		files = append(files, file(fmt.Sprintf("f%03d", i), i))
	}
	b.store(b.leaseOne(awaited, ev), relay.OutcomeRetry, files[:200]...)
	b.store(b.leaseOne(awaited, ev), relay.OutcomeRetry, files[200:]...)
	files = files[:relay.MaxFiles]
	b.wantFiles("kept", b.record(ev).Files, files...)
	files[7] = file(files[7].Field, 1000)
	b.store(b.leaseOne(awaited, ev), relay.OutcomeRetry, files[7], file("z", 1))
	b.wantFiles("kept", b.record(ev).Files, files...)
}

func filesLost(b *bench) {
	ev := b.accept("one", awaited)
	stale := b.leaseOne(awaited, ev)
	b.Advance(leaseFor)
	b.leaseOne(awaited, ev)
	err := b.trySettle(relay.Settle{Leased: stale, Outcome: relay.OutcomeRetry, Attempt: attempt(0), Files: []relay.File{file("a", 1)}})
	if !errors.Is(err, relay.ErrLeaseLost) {
		b.t.Fatal(err)
	}
	b.wantFiles("kept", b.record(ev).Files)
}

func filesBehind(b *bench) {
	ev := b.acceptNew("one", behind(billing)...)
	one := file("data.a", 1)
	b.store(b.leaseOne(awaited, ev), relay.OutcomeDelivered, one)
	l := b.leaseOne(billing, ev)
	b.wantFiles("leased", l.Files, one)
	b.settleAll(relay.OutcomeDelivered, l)
	b.replay(ev, 0, 1, 0, billing)
	b.wantFiles("replayed", b.leaseOne(billing, ev).Files, one)
}

func filesPurge(b *bench) {
	ev := b.accept("one", awaited)
	b.store(b.leaseOne(awaited, ev), relay.OutcomeDelivered, file("a", 1))
	b.Advance(2 * time.Hour)
	res, err := b.Store.Purge(b.ctx(), relay.PurgePolicy{Retention: time.Hour, DeadLetterRetention: time.Hour, DefaultWindow: time.Hour})
	b.must(err)
	if res.Events != 1 {
		b.t.Fatalf("purged %+v", res)
	}
	// The very same event, which comes again from a spool, has no files of before.
	again := inDoubt(ev)
	b.wantResult(b.put(again, to(awaited)...), relay.Accepted, again)
	got := b.lease(awaited, 5)
	if !slices.ContainsFunc(got, func(l *relay.Leased) bool { return l.Event.ID == ev.ID && l.Files == nil }) {
		b.t.Fatalf("leased %+v", got)
	}
	b.wantFiles("of the new one", b.record(again).Files)
}
