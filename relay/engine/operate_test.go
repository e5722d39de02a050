package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// onBothStores runs a test with what starts a gateway on either store.
func onBothStores(t *testing.T, test func(t *testing.T, start func(...*relay.Destination) *gateway)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, func(d ...*relay.Destination) *gateway { return newGateway(t, d...) })
	})
	t.Run("redis", func(t *testing.T) {
		redis := redistest.Start(t)
		test(t, func(d ...*relay.Destination) *gateway { return newRedisGateway(t, redis, newSource(d...)) })
	})
}

// acceptDelivered accepts events of as many tasks, and waits until each is delivered to a destination.
func (g *gateway) acceptDelivered(n int, destination string) (ids []string) {
	g.t.Helper()
	for i := range n {
		ids = append(ids, g.mustAccept("task-"+string(rune('a'+i%26))+string(rune('a'+i/26))))
	}
	for _, id := range ids {
		g.awaitState(id, destination, relay.StateDelivered)
	}
	return ids
}

func (g *gateway) replayAll(f relay.EventFilter, perSecond float64, dry bool, replayed, skipped int) {
	g.t.Helper()
	r, s, err := g.ReplayAll(context.Background(), f, perSecond, dry)
	if r != replayed || s != skipped || err != nil {
		g.t.Fatalf("replayed %d and skipped %d, error %v; want %d and %d", r, s, err, replayed, skipped)
	}
}

// push makes these the destinations of the source.
func (g *gateway) push(destinations ...*relay.Destination) {
	src := *g.source
	src.Destinations = destinations
	g.source = &src
	g.Push(g.settings())
}

func TestReplayAll(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		a := newConsumer(t, nil)
		g := start(destination(t, "a", a.URL))
		ids := g.acceptDelivered(5, "a")
		rec, err := g.Event(context.Background(), ids[2])
		if err != nil {
			t.Fatal(err)
		}
		all := relay.EventFilter{Source: "vocals", State: relay.StateDelivered}
		g.replayAll(all, 0, true, 5, 0)
		if a.count() != 5 {
			t.Fatalf("a dry run has delivered: %d requests", a.count())
		}
		g.replayAll(relay.EventFilter{Source: "vocals", TaskID: rec.TaskID}, 0, false, 1, 0)
		g.await("the task's event is delivered once more", func() bool { return a.count() == 6 })
		g.awaitState(ids[2], "a", relay.StateDelivered)
		g.replayAll(all, 0, false, 5, 0)
		g.await("all are delivered once more", func() bool { return a.count() == 11 })
		g.replayAll(relay.EventFilter{Source: "vocals", State: relay.StateDead}, 0, false, 0, 0)
		g.replayAll(relay.EventFilter{Source: "other", State: relay.StateDelivered}, 0, false, 0, 0)
		for _, id := range ids {
			g.awaitState(id, "a", relay.StateDelivered)
		}
		if err := g.Pause(context.Background(), "vocals", "a", true); err != nil {
			t.Fatal(err)
		}
		g.replayAll(all, 1./60, false, 5, 0)
		g.replayAll(relay.EventFilter{Source: "vocals", State: relay.StatePending}, 0, false, 0, 5)
		for i, id := range ids {
			due, want := g.delivery(id, "a").NextAttempt, time.Duration(i)*time.Minute
			if due > want || due < want-20*time.Second {
				t.Errorf("delivery %d is due after %v, want %v", i, due, want)
			}
		}
	})
}

// A destination that is named twice is replayed, or skipped, once.
func TestReplayOfRepeatedNames(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		c := newConsumer(t, nil)
		g := start(destination(t, "a", c.URL), destination(t, "b", c.URL))
		id := g.mustAccept("task-1")
		g.awaitState(id, "a", relay.StateDelivered)
		g.awaitState(id, "b", relay.StateDelivered)
		if err := g.Pause(t.Context(), "vocals", "a", true); err != nil {
			t.Fatal(err)
		}
		for _, want := range [][2]int{{1, 0}, {0, 1}} {
			replayed, skipped, err := g.Replay(t.Context(), id, []string{"a", "a"}, 0)
			if replayed != want[0] || skipped != want[1] || err != nil {
				t.Errorf("replayed %d and skipped %d, error %v; want %v", replayed, skipped, err, want)
			}
		}
		if replayed, skipped, err := g.Replay(t.Context(), id, []string{"b", "a", "b"}, 0); replayed != 1 || skipped != 1 || err != nil {
			t.Errorf("replayed %d and skipped %d, error %v", replayed, skipped, err)
		}
	})
}

// wantsTask is a `when` that wants the events of a task, and cannot decide about another.
type wantsTask struct {
	wanted, broken string
	format         payload.Format // of the source's bodies
}

func (f wantsTask) Match(v *relay.View) (bool, error) {
	if v.Event.TaskID == f.broken || v.Format != f.format {
		return false, errors.New("no such field")
	}
	return v.Event.TaskID == f.wanted && len(v.Event.Body) > 0, nil
}

func TestReplayAllBackfills(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		a, b := newConsumer(t, nil), newConsumer(t, nil)
		old, filtered, all := destination(t, "a", a.URL), destination(t, "filtered", b.URL), destination(t, "all", b.URL)
		g := start(old)
		ids := g.acceptDelivered(3, "a")
		g.source.Body = payload.Any
		filtered.When = wantsTask{wanted: "task-ba", broken: "task-ca", format: payload.Any}
		g.push(filtered, all)
		since := relay.EventFilter{Source: "vocals", Since: time.Now().Add(-time.Hour)}
		g.replayAll(since, 0, false, 0, 3) // what has left the config has nowhere to go
		since.Destination = "filtered"
		g.replayAll(since, 0, true, 2, 1)
		g.replayAll(since, 0, false, 2, 1)
		g.awaitState(ids[1], "filtered", relay.StateDelivered)
		g.awaitState(ids[2], "filtered", relay.StateDelivered)
		since.Destination = "all"
		g.replayAll(since, 0, false, 3, 0)
		for _, id := range ids {
			g.awaitState(id, "all", relay.StateDelivered)
		}
		if a.count() != 3 || b.count() != 5 {
			t.Errorf("delivered %d and %d", a.count(), b.count())
		}
		since.Destination = "a"
		if _, _, err := g.ReplayAll(context.Background(), since, 0, false); !errors.Is(err, relay.ErrNotFound) {
			t.Errorf("replay to a destination that has left the config: %v", err)
		}
	})
}

// As at accept, an event that a filter cannot be evaluated for is delivered to a new destination, logged and counted: once, and
// not by a dry run.
func TestBackfillLogsWhenThatFails(t *testing.T) {
	var logged logLines
	c := newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", c.URL))
	id := g.acceptDelivered(1, "a")[0]
	g.source.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	dst := destination(t, "new", c.URL)
	dst.When = undecidable(t)
	g.push(dst)
	missing := relay.EventFilter{Source: "vocals", Destination: "new"}
	g.replayAll(missing, 0, true, 1, 0)
	g.replayAll(missing, 0, false, 1, 0)
	g.awaitState(id, "new", relay.StateDelivered)
	g.await("it is logged", func() bool { return logged.count("cannot be evaluated", id) > 0 })
	if lines, n := logged.count("cannot be evaluated"), values(t, g.metrics, "caddy_relay_when_errors_total")[""]; lines != 1 || n != 1 {
		t.Errorf("one event made %d lines and is counted as %v", lines, n)
	}
}

// noticing is a context that calls noticed whenever it is asked for something: what it is given to has begun.
type noticing struct {
	context.Context
	noticed func()
}

func (c noticing) Deadline() (time.Time, bool) { c.noticed(); return c.Context.Deadline() }
func (c noticing) Done() <-chan struct{}       { c.noticed(); return c.Context.Done() }
func (c noticing) Err() error                  { c.noticed(); return c.Context.Err() }
func (c noticing) Value(key any) any           { c.noticed(); return c.Context.Value(key) }

// Two operators who ask at the same moment get each delivery once, however fast those are settled again.
func TestOperatorsAtOnce(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		const events = 60
		var dead atomic.Bool
		var begun sync.WaitGroup // by the operators: one who begins after the first is settled asks anew
		a := newConsumer(t, func(int, *http.Request) int {
			begun.Wait()
			if dead.Load() {
				return http.StatusGone
			}
			return http.StatusOK
		})
		g := start(destination(t, "a", a.URL))
		ids := g.acceptDelivered(events, "a")
		replays := 0
		for _, operation := range []struct {
			name string
			ends relay.State
			do   func(context.Context) (int, error)
		}{
			{"replay", relay.StateDead, func(ctx context.Context) (int, error) {
				n, _, err := g.ReplayAll(ctx, relay.EventFilter{Source: "vocals", Destination: "a"}, 0, false)
				return n, err
			}},
			{"redrive", relay.StateDead, func(ctx context.Context) (int, error) {
				return g.Redrive(ctx, relay.Selection{Source: "vocals"}, 0)
			}},
		} {
			dead.Store(operation.ends == relay.StateDead)
			var total atomic.Int64
			var done sync.WaitGroup
			begun.Add(4)
			for range 4 {
				done.Go(func() {
					n, err := operation.do(noticing{context.Background(), sync.OnceFunc(begun.Done)})
					if err != nil {
						t.Errorf("%s: %v", operation.name, err)
					}
					total.Add(int64(n))
				})
			}
			done.Wait()
			if replays++; total.Load() != events {
				t.Errorf("%s: %d of %d", operation.name, total.Load(), events)
			}
			for _, id := range ids {
				if d := g.awaitState(id, "a", operation.ends); d.Replay != replays || d.Tries != 1+replays {
					t.Errorf("%s: %d replays and %d tries of %s", operation.name, d.Replay, d.Tries, id)
				}
			}
		}
	})
}

// Deliveries that are handed to a paused destination are held there, and the pause of the old name stays with that name.
func TestReassignPaused(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		a, b := newConsumer(t, nil), newConsumer(t, nil)
		old, renamed, other := destination(t, "old", a.URL), destination(t, "new", a.URL), destination(t, "other", b.URL)
		g := start(old, renamed)
		for _, name := range []string{"old", "new"} {
			if err := g.Pause(t.Context(), "vocals", name, true); err != nil {
				t.Fatal(err)
			}
		}
		g.push(old)
		waiting := g.mustAccept("waiting")
		g.push(renamed)
		if r, err := g.Reassign(t.Context(), "vocals", "old", "new"); err != nil || r.Moved != 1 || r.Left != 0 {
			t.Fatalf("%+v, error %v", r, err)
		}
		g.push(old, renamed, other)
		later := g.mustAccept("later")
		g.awaitState(later, "other", relay.StateDelivered)
		if n := a.count(); n != 0 {
			t.Fatalf("%d requests, though both destinations are paused", n)
		}
		for _, name := range []string{"old", "new"} {
			if got := g.DisplayStates()("vocals", name); got != relay.StatePaused {
				t.Errorf("%s is %s", name, got)
			}
		}
		if err := g.Pause(t.Context(), "vocals", "new", false); err != nil {
			t.Fatal(err)
		}
		g.awaitState(waiting, "new", relay.StateDelivered)
		g.awaitState(later, "new", relay.StateDelivered)
		if d := g.delivery(later, "old"); d.State != relay.StatePending || a.count() != 2 {
			t.Errorf("old is still paused: its delivery is %s after %d requests", d.State, a.count())
		}
	})
}

func TestReassign(t *testing.T) {
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		a := newConsumer(t, nil)
		old, renamed := destination(t, "old", a.URL), destination(t, "new", a.URL)
		g := start(old)
		delivered := g.acceptDelivered(1, "old")[0]
		if err := g.Pause(context.Background(), "vocals", "old", true); err != nil {
			t.Fatal(err)
		}
		waiting := g.mustAccept("waiting")
		for _, c := range []struct {
			to, from string
			want     error
		}{{"old", "new", relay.ErrNotFound}, {"new", "old", engine.ErrConfigured}, {"new", "never", relay.ErrNotFound}} {
			if c.to == "new" {
				g.push(old, renamed)
			}
			if _, err := g.Reassign(context.Background(), "vocals", c.from, c.to); !errors.Is(err, c.want) {
				t.Errorf("from %s to %s: %v, want %v", c.from, c.to, err, c.want)
			}
		}
		g.push(renamed)
		var moved atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				r, err := g.Reassign(context.Background(), "vocals", "old", "new")
				if err != nil && !errors.Is(err, relay.ErrNotFound) || r.Left != 0 {
					t.Errorf("left %d, error %v", r.Left, err)
				}
				moved.Add(int64(r.Moved))
			})
		}
		wg.Wait()
		if moved.Load() != 2 {
			t.Errorf("moved %d, want 2", moved.Load())
		}
		g.awaitState(waiting, "new", relay.StateDelivered)
		if d := g.delivery(delivered, "new"); d.State != relay.StateDelivered || len(d.Attempts) != 1 {
			t.Errorf("read %+v", d)
		}
	})
}
