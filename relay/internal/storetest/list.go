package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var listTests = []test{
	{"events", listEvents},
	{"events by filter", listFilters},
	{"events page by page, while more come", listPages},
	{"events after one", listAfter},
	{"events far back", listFarBack},
	{"deliveries of an event", listDeliveries},
	{"dead letters page by page", listLetters},
	{"dead letters of several sources", listLettersOfAll},
	{"dead letters while they go", listLettersGoing},
	{"bad cursors", listBadCursors},
}

func ids(events []relay.EventRecord) []string {
	var ids []string
	for _, ev := range events {
		ids = append(ids, ev.ID)
	}
	return ids
}

// newestFirst returns the ids of events that were accepted in the order given.
func newestFirst(events ...*relay.Event) []string {
	var ids []string
	for _, ev := range slices.Backward(events) {
		ids = append(ids, ev.ID)
	}
	return ids
}

func (b *bench) wantEvents(f relay.EventFilter, want ...*relay.Event) {
	b.t.Helper()
	if got := ids(b.events(f, nil)); !b.same(got, newestFirst(want...)) {
		b.t.Fatalf("%+v lists %v\nwant %v", f, got, newestFirst(want...))
	}
}

func listEvents(b *bench) {
	b.wantEvents(relay.EventFilter{})
	one, two := b.accept("one", billing, search), b.accept("two", billing)
	b.put(repeated(one))
	b.put(conflicting(one, 1))
	b.settle(relay.Settle{Leased: b.leaseOne(billing, one), Outcome: relay.OutcomeRetry, Delay: time.Hour, Attempt: attempt(500)})
	b.wantEvents(relay.EventFilter{}, one, two)
	r := b.events(relay.EventFilter{}, nil)[1]
	if r.Source != source || r.TaskID != "one" || r.Stage != one.Stage || r.Code != one.Code || r.Key != one.Key || r.Origin != one.Origin ||
		!r.ReceivedAt.Equal(one.ReceivedAt) || r.Duplicates != 1 || r.Conflicts != 1 || r.State() != relay.StatePending || len(r.Deliveries) != 2 {
		b.t.Fatalf("listed %+v", r)
	}
	for _, d := range r.Deliveries {
		if d.Destination == billing && (d.Tries != 1 || d.State != relay.StatePending || d.NextAttempt < time.Hour-slack) {
			b.t.Fatalf("listed %+v", d)
		}
	}
}

func listFilters(b *bench) {
	one := b.accept("one", billing)
	two := b.accept("two", billing, search)
	three := b.accept("one", search)
	four := b.accept("four")
	foreign := newEvent("one")
	foreign.Source = "drums"
	b.put(foreign, to(billing)...)
	b.settleAll(relay.OutcomeDead, b.leaseOne(billing, one))
	b.settleAll(relay.OutcomeDelivered, b.leaseOne(billing, two))
	b.settleAll(relay.OutcomeDelivered, b.lease(search, 2)...)
	for _, c := range []struct {
		filter relay.EventFilter
		want   []*relay.Event
	}{
		{relay.EventFilter{Source: source}, []*relay.Event{one, two, three, four}},
		{relay.EventFilter{Source: "drums"}, []*relay.Event{foreign}},
		{relay.EventFilter{Source: "nobody"}, nil},
		{relay.EventFilter{Source: source, TaskID: "one"}, []*relay.Event{one, three}},
		{relay.EventFilter{Source: source, TaskID: "on"}, nil},
		{relay.EventFilter{TaskID: "two"}, []*relay.Event{two}},
		{relay.EventFilter{Source: source, Destination: search}, []*relay.Event{two, three}},
		{relay.EventFilter{Source: source, Destination: billing, TaskID: "one"}, []*relay.Event{one}},
		{relay.EventFilter{State: relay.StateDead}, []*relay.Event{one}},
		{relay.EventFilter{Source: source, State: relay.StateDelivered}, []*relay.Event{two, three, four}},
		{relay.EventFilter{State: relay.StatePending}, []*relay.Event{foreign}},
		{relay.EventFilter{State: relay.StateDelivered, Destination: search, TaskID: "one"}, []*relay.Event{three}},
		{relay.EventFilter{Source: source, Since: two.ReceivedAt, Until: four.ReceivedAt}, []*relay.Event{two, three}},
		{relay.EventFilter{Source: source, Since: three.ReceivedAt}, []*relay.Event{three, four}},
		{relay.EventFilter{Until: two.ReceivedAt}, []*relay.Event{one}},
		{relay.EventFilter{Since: foreign.ReceivedAt.Add(time.Hour)}, nil},
	} {
		b.wantEvents(c.filter, c.want...)
		c.filter.Limit = 1
		b.wantEvents(c.filter, c.want...)
	}
}

func listPages(b *bench) {
	events := b.acceptMany(53, to(billing)...)
	n := 0
	got := ids(b.events(relay.EventFilter{Source: source, Limit: 7}, func() {
		n++
		b.accept("later", billing)
		b.accept("elsewhere")
	}))
	if !b.same(got, newestFirst(events...)) {
		b.t.Fatalf("listed %d events, want the %d that were there, each once", len(got), len(events))
	}
	if n < 53/7 {
		b.t.Fatalf("%d pages", n)
	}
	page, next, err := b.Store.Events(b.ctx(), relay.EventFilter{})
	b.must(err)
	if len(page) == 0 {
		b.t.Fatalf("without a limit the first page is empty, next %q", next)
	}
}

// A list can begin behind an event, and lists of all sources are by sequence too.
func listAfter(b *bench) {
	var events []relay.EventRecord
	for i := range 6 {
		ev := newEvent("one")
		ev.Source = []string{source, "drums"}[i%2]
		b.put(ev, to(billing)...)
		events = append(events, *b.record(ev))
	}
	slices.SortFunc(events, func(x, y relay.EventRecord) int { return cmp.Compare(x.Seq, y.Seq) })
	for i := range events {
		for _, limit := range []int{0, 1, 4} {
			if got := ids(b.events(relay.EventFilter{Oldest: true, After: events[i].Seq, Limit: limit}, nil)); !slices.Equal(got, ids(events[i+1:])) {
				b.t.Fatalf("after event %d, %d a page: got %v, want %v", i, limit, got, ids(events[i+1:]))
			}
			if got := b.events(relay.EventFilter{TaskID: "one", Oldest: true, After: events[i].Seq, Limit: limit}, nil); !slices.Equal(ids(got), ids(events[i+1:])) {
				b.t.Fatalf("of a task after event %d, %d a page: got %v, want %v", i, limit, ids(got), ids(events[i+1:]))
			}
		}
		if other := &events[(i+2)%len(events)]; other.Source == events[i].Source && !b.Parted && other.Sequence != events[i].Sequence {
			b.t.Fatalf("events of one source are of the sequences %q and %q", other.Sequence, events[i].Sequence)
		}
	}
}

// Rare and old events are found, however many pages that takes.
func listFarBack(b *bench) {
	rare := b.accept("rare", search)
	b.settleAll(relay.OutcomeDead, b.leaseOne(search, rare))
	all := append([]*relay.Event{rare}, b.acceptMany(2300, to(billing)...)...)
	for _, f := range []relay.EventFilter{
		{TaskID: "rare"},
		{State: relay.StateDead},
		{Destination: search},
		{Until: all[1].ReceivedAt},
		{Source: source, State: relay.StateDead, Limit: 3},
	} {
		b.wantEvents(f, rare)
	}
	b.wantEvents(relay.EventFilter{Source: source, Limit: 500}, all...)
}

// Deliveries are in the order of their destinations' names, and not in that of the config, whatever has become of them.
func listDeliveries(b *bench) {
	waiting, leased := b.accept("one", "third", search, billing), newEvent("two")
	b.settleAll(relay.OutcomeDead, b.leaseOne(search, waiting))
	op := b.put(leased, now("third"), now(search), now(billing))
	b.settleAll(relay.OutcomeDelivered, op.Leased[0])
	for _, r := range append(b.events(relay.EventFilter{}, nil), *b.record(waiting), *b.record(leased)) {
		var got []string
		for _, d := range r.Deliveries {
			got = append(got, d.Destination)
		}
		if want := []string{billing, search, "third"}; !slices.Equal(got, want) {
			b.t.Errorf("event %s has deliveries to %v, want %v", r.TaskID, got, want)
		}
	}
}

func listLetters(b *bench) {
	destinations := []string{"third", billing, search}
	var want []string
	for range 9 {
		ev := b.accept("one", destinations...)
		for _, d := range destinations {
			b.settleAll(relay.OutcomeDead, b.leaseOne(d, ev))
			want = append(want, ev.ID+" "+d)
		}
	}
	slices.Sort(want)
	for _, limit := range []int{1, 2, 3, 4, 7, 26, 27, 28} {
		letters := b.lettersBy(relay.Selection{Source: source}, limit)
		var got []string
		for i, l := range letters {
			got = append(got, l.EventID+" "+l.Destination)
			if i > 0 && l.EventID > letters[i-1].EventID {
				b.t.Fatalf("limit %d: an older event comes first", limit)
			}
			if i > 0 && l.EventID == letters[i-1].EventID && l.Destination <= letters[i-1].Destination {
				b.t.Fatalf("limit %d: %s comes after %s", limit, l.Destination, letters[i-1].Destination)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			b.t.Fatalf("limit %d: listed %d, want %d, each once", limit, len(got), len(want))
		}
		if n := len(b.lettersBy(relay.Selection{Source: source, Destination: search}, limit)); n != 9 {
			b.t.Fatalf("limit %d: listed %d of one destination, want 9", limit, n)
		}
	}
	page, _, err := b.Store.DeadLetters(b.ctx(), relay.Selection{}, 0, "")
	b.must(err)
	if len(page) == 0 {
		b.t.Fatal("without a limit the first page is empty")
	}
}

func listLettersOfAll(b *bench) {
	const sources, each = 3, 5
	for s := range sources {
		for range each {
			ev := newEvent("one")
			ev.Source = fmt.Sprintf("source-%d", s)
			op := b.put(ev, now(billing))
			b.settleAll(relay.OutcomeDead, op.Leased...)
		}
	}
	for _, limit := range []int{1, 4, 15, 50} {
		seen := map[string]int{}
		for _, l := range b.lettersBy(relay.Selection{}, limit) {
			seen[l.EventID]++
		}
		if len(seen) != sources*each {
			b.t.Fatalf("limit %d: listed %d, want %d", limit, len(seen), sources*each)
		}
		for id, n := range seen {
			if n != 1 {
				b.t.Fatalf("limit %d: %s is listed %d times", limit, id, n)
			}
		}
	}
}

// Letters that go while they are listed hide no others.
func listLettersGoing(b *bench) {
	var events []*relay.Event
	for range 20 {
		events = append(events, b.kill("one", billing))
	}
	page, next, err := b.Store.DeadLetters(b.ctx(), relay.Selection{Source: source}, 5, "")
	b.must(err)
	if len(page) != 5 || next == "" {
		b.t.Fatalf("the first page has %d, next %q", len(page), next)
	}
	b.replay(events[15], 0, 1, 0, billing) // the last one of that page
	b.replay(events[12], 0, 1, 0, billing)
	seen := map[string]bool{}
	for range mostPages {
		if next == "" {
			break
		}
		page, next, err = b.Store.DeadLetters(b.ctx(), relay.Selection{Source: source}, 5, next)
		b.must(err)
		for _, l := range page {
			seen[l.EventID] = true
		}
	}
	for i, ev := range events[:15] {
		if seen[ev.ID] != (i != 12) {
			b.t.Fatalf("letter %d is listed: %v", i, seen[ev.ID])
		}
	}
	if len(seen) != 14 {
		b.t.Fatalf("listed %d, want 14", len(seen))
	}
}

func listBadCursors(b *bench) {
	b.kill("one", billing)
	for _, cursor := range []string{"?", "no cursor", "-", "\x00", "ä", "9999999999999999999999999"} {
		if _, _, err := b.Store.Events(b.ctx(), relay.EventFilter{Cursor: cursor}); !errors.Is(err, relay.ErrBadCursor) {
			b.t.Errorf("events after %q: %v", cursor, err)
		}
		if _, _, err := b.Store.DeadLetters(b.ctx(), relay.Selection{}, 5, cursor); !errors.Is(err, relay.ErrBadCursor) {
			b.t.Errorf("dead letters after %q: %v", cursor, err)
		}
	}
}
