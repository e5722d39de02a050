package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// First checks a store that a gateway of the first release has written, and goes on with it. The gateway was killed while
// each of 23 events of source vocals, three tasks having two, had a delivery to each destination: delivered to good (one
// after a replay), dead at bad, waiting for down, whose breaker was open, for ord, which is ordered by task, and for hold,
// which is paused. The event of task 0 has a duplicate, that of task 1 a variant. refresh makes Counts current.
func First(t *testing.T, s relay.Store, refresh func()) {
	t.Helper()
	b := &bench{t: t, Harness: &Harness{Store: s}}
	refresh()
	want := map[string][3]int64{"good": {0, 23, 0}, "bad": {0, 0, 23}, "down": {23, 0, 0}, "hold": {23, 0, 0}, "ord": {23, 0, 0}}
	for _, c := range s.Counts() {
		if got := [3]int64{c.Pending + c.InFlight, c.Delivered, c.Dead}; got != want[c.Destination] || c.Paused != (c.Destination == "hold") {
			t.Errorf("the counts of %s are %+v", c.Destination, c)
		}
		delete(want, c.Destination)
	}
	if len(want) != 0 {
		t.Errorf("no counts of %v", want)
	}

	events, _, err := s.Events(b.ctx(), relay.EventFilter{Source: "vocals", Limit: 100})
	b.must(err)
	if len(events) != 23 {
		t.Fatalf("%d events are listed", len(events))
	}
	replayed, firstOf := 0, map[string]string{}
	for _, e := range events { // newest first
		r, err := s.Event(b.ctx(), e.ID)
		b.must(err)
		firstOf[r.TaskID] = r.ID
		states := map[string]relay.State{}
		for _, d := range r.Deliveries {
			states[d.Destination] = d.State
			replayed += d.Replay
			if len(d.Attempts) != d.Tries {
				t.Errorf("delivery %+v of %s lacks attempts", d, r.ID)
			}
		}
		if states["good"] != relay.StateDelivered || states["bad"] != relay.StateDead || states["hold"] != relay.StatePending ||
			!strings.Contains(string(r.Body), r.TaskID) {
			t.Errorf("event %s is %+v", r.ID, r)
		}
		firstRepeats(b, r)
	}
	if replayed != 1 {
		t.Errorf("%d deliveries were replayed", replayed)
	}

	for destination, n := range map[string]int{"down": 23, "ord": 20, "hold": 0, "good": 0, "bad": 0} {
		l := &relay.Lease{Source: "vocals", Destination: destination, Max: 100, For: time.Minute, Probe: true}
		s.Apply(b.ctx(), &relay.Batch{Leases: []*relay.Lease{l}})
		b.must(l.Err)
		if len(l.Leased) != n {
			t.Errorf("%d deliveries to %s are leased, want %d", len(l.Leased), destination, n)
		}
		for _, d := range l.Leased {
			if destination == "ord" && firstOf[d.Event.TaskID] != d.Event.ID {
				t.Errorf("event %s of task %s is leased before %s", d.Event.ID, d.Event.TaskID, firstOf[d.Event.TaskID])
			}
		}
	}
	if n := b.redrive(relay.Selection{}); n != 23 {
		t.Errorf("%d dead letters are redriven", n)
	}
	n, skipped, err := s.Replay(b.ctx(), events[0].ID, []string{"good", "down"}, 0)
	if n != 1 || skipped != 1 || err != nil {
		t.Errorf("%d deliveries are replayed and %d skipped, %v", n, skipped, err)
	}
}

// firstRepeats checks what an event of the first release has been repeated by, and repeats it once more.
func firstRepeats(b *bench, r *relay.EventRecord) {
	b.t.Helper()
	duplicates, variants := 0, 0
	switch {
	case r.Stage == "first":
	case r.TaskID == fmt.Sprintf("%032x", 0):
		duplicates = 1
	case r.TaskID == fmt.Sprintf("%032x", 1):
		variants = 1
	}
	if r.Duplicates != duplicates || r.Conflicts != variants || len(r.Variants) != variants {
		b.t.Errorf("event %s has %d duplicates, %d conflicts and %d variants", r.ID, r.Duplicates, r.Conflicts, len(r.Variants))
	}
	again := r.Event
	again.ID = ulid.Make().String()
	a := &relay.Accept{Window: 100 * 365 * 24 * time.Hour, Event: &again}
	b.Store.Apply(b.ctx(), &relay.Batch{Accepts: []*relay.Accept{a}})
	if a.Err != nil || a.FirstID != r.ID || a.Result != relay.Duplicate && a.Result != relay.Conflict {
		b.t.Errorf("event %s again is %v of %s, %v", r.ID, a.Result, a.FirstID, a.Err)
	}
}
