package redisstore_test

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Counters that have gone wrong are put right by a look, where that can tell.
func TestCountersAreRecounted(t *testing.T) {
	s := open(t)
	head := t.Name() + ":{vocals}:head"
	want := func(destination string, pending, leased int64, held, waiting any) {
		t.Helper()
		s.Refresh()
		for _, c := range s.Counts() {
			if c.Destination == destination && (c.Pending != pending || c.InFlight != leased) {
				t.Errorf("counts are %+v, want %d and %d", c, pending, leased)
			}
		}
		for field, n := range map[string]any{"f:" + destination: held, "w:" + destination: waiting} {
			if got := server.Do(t, "HGET", head, field); got != n {
				t.Errorf("%s is %v, want %v", field, got, n)
			}
		}
	}
	accept(t, s, newAccept("one"), newAccept("one"), newAccept("one"))
	leased := lease(t, s, "one", 2).Leased
	if err := settle(t, s, leased[0], relay.OutcomeRetry); err != nil { // it has a record of its own from now on
		t.Fatal(err)
	}
	server.Do(t, "HSET", head, "f:one", 7, "w:one", 9)
	want("one", 2, 1, "0", "2")
	server.Do(t, "HSET", head, "f:one", -7, "w:one", -9)
	want("one", 2, 1, "0", "2")

	a := packed(t, s, "two")
	want("two", 0, 1, "1", "0")
	delivered(t, s, a.Leased...)
	want("two", 0, 0, "0", "0")

	// Behind the turn of a task deliveries are in no queue.
	for range 3 {
		a := newAccept("three")
		a.Event.TaskID, a.Deliveries[0].Ordered = "task", true
		accept(t, s, a)
	}
	accept(t, s, newAccept("three"))
	want("three", 4, 0, "0", "1")
	if l := lease(t, s, "three", 4).Leased; len(l) != 2 {
		t.Errorf("leased %d", len(l))
	}
	want("three", 2, 2, "0", "1")
}

// A look at a source that there is not, as one whose name is mistyped, leaves nothing in Redis.
func TestAnUnknownSourceIsNotMade(t *testing.T) {
	s := open(t)
	accept(t, s, newAccept("one"))
	ctx, typo := t.Context(), relay.Selection{Source: "vocal", Destination: "one", Orphaned: true}
	for call, look := range map[string]func() (int, error){
		"dead letters": func() (int, error) { l, _, err := s.DeadLetters(ctx, typo, 10, ""); return len(l), err },
		"events": func() (int, error) {
			l, _, err := s.Events(ctx, relay.EventFilter{Source: "vocal"})
			return len(l), err
		},
		"task": func() (int, error) {
			l, _, err := s.Tasks(ctx, relay.TaskFilter{Source: "vocal", TaskID: "task"})
			return len(l), err
		},
		"redrive": func() (int, error) { n, _, err := s.Redrive(ctx, typo, relay.Pace{}, ""); return n, err },
		"discard": func() (int, error) { n, _, err := s.Discard(ctx, typo, ""); return n, err },
		"expire":  func() (int, error) { l, err := s.Expire(ctx, "vocal", "one", time.Hour); return len(l), err },
	} {
		if n, err := look(); n != 0 || err != nil {
			t.Errorf("%s gave %d, %v", call, n, err)
		}
		if keys, _ := server.Do(t, "KEYS", t.Name()+":{vocal}:*").([]any); len(keys) != 0 {
			t.Errorf("%s has left %v", call, keys)
		}
	}
}
