package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
)

// A newer generation counts; when it is withdrawn, the one before it does again.
func TestGenerations(t *testing.T) {
	a, b := newConsumer(t, nil), newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", a.URL))
	newer := g.settings()
	src := *g.source
	src.Destinations = []*relay.Destination{destination(t, "a", b.URL)}
	newer.Sources = map[string]*relay.Source{"vocals": &src}
	generation := g.Push(newer)
	g.mustAccept("task-1")
	b.next(t)
	generation.Withdraw()
	generation.Withdraw()
	g.mustAccept("task-2")
	a.next(t)
}

func TestOrphanedDeliveriesStay(t *testing.T) {
	c := newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", c.URL), destination(t, "b", c.URL))
	if err := g.Pause(context.Background(), "vocals", "b", true); err != nil {
		t.Fatal(err)
	}
	id := g.mustAccept("task-1")
	g.awaitState(id, "a", relay.StateDelivered)

	without := g.settings()
	src := *g.source
	src.Destinations = src.Destinations[:1]
	without.Sources = map[string]*relay.Source{"vocals": &src}
	generation := g.Push(without)
	if got := g.DisplayStates()("vocals", "b"); got != relay.StateOrphaned {
		t.Errorf("display state is %q", got)
	}
	var orphaned int64
	for _, d := range g.Status(context.Background()).Destinations {
		orphaned += d.Counts.Orphaned
	}
	if orphaned != 1 {
		t.Errorf("%d orphaned deliveries in status", orphaned)
	}
	if n, err := g.Discard(context.Background(), relay.Selection{Source: "vocals", Destination: "a", Orphaned: true}); n != 0 || err != nil {
		t.Errorf("discarding the orphans of a configured destination: %v", err)
	}
	generation.Withdraw()
	if err := g.Pause(context.Background(), "vocals", "b", false); err != nil {
		t.Fatal(err)
	}
	g.awaitState(id, "b", relay.StateDelivered)
}

// What waits when a gateway starts is orphaned only if the settings, which come after the store is open, do not have it.
func TestOrphansOfABacklog(t *testing.T) {
	c := newConsumer(t, nil)
	path := filepath.Join(t.TempDir(), "relay.db")
	dst := destination(t, "a", c.URL)
	first := startGateway(t, path, openSQLite(path), newSource(dst))
	if err := first.Pause(t.Context(), "vocals", "a", true); err != nil {
		t.Fatal(err)
	}
	first.mustAccept("task-1")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for name, configured := range map[string]bool{"configured": true, "gone": false} {
		var logged bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&logged, nil))
		g := &gateway{Engine: engine.New(engine.Options{OpenStore: openSQLite(path), Logger: logger}), t: t, source: newSource(dst)}
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		settings := g.settings()
		if settings.Logger = logger; !configured {
			settings.Sources = nil
		}
		g.Push(settings)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if warned := strings.Contains(logged.String(), "orphaned"); warned == configured {
			t.Errorf("a destination that is %s: %s", name, &logged)
		}
	}
}

// Attempts in flight at a stop are released, and delivered by the next process.
func TestCloseReleasesWhatDoesNotEnd(t *testing.T) {
	var hang atomic.Bool
	hang.Store(true)
	started := make(chan struct{}, 100)
	c := newConsumer(t, func(_ int, r *http.Request) int {
		if hang.Load() {
			started <- struct{}{}
			<-r.Context().Done()
		}
		return 200
	})
	path := filepath.Join(t.TempDir(), "relay.db")
	dst := destination(t, "a", c.URL)
	first := engine.New(engine.Options{OpenStore: openSQLite(path)})
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := &gateway{Engine: first, t: t, source: newSource(dst)}
	settings := g.settings()
	settings.Drain = 50 * time.Millisecond
	g.Push(settings)
	id := g.mustAccept("task-1")
	<-started
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if w := g.send(callback("task-2")); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("a callback after the end was answered %d", w.Code)
	}

	hang.Store(false)
	second := startGateway(t, path, openSQLite(path), newSource(dst))
	d := second.awaitState(id, "a", relay.StateDelivered)
	if len(d.Attempts) != 1 {
		t.Errorf("the released attempt was recorded: %+v", d.Attempts)
	}
}

func TestStoreThatCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	if err := os.WriteFile(path, []byte("this is no database, but something that someone may want to keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newConsumer(t, nil)
	g := startGateway(t, path, openSQLite(path), newSource(destination(t, "a", c.URL)))
	refused := func(push bool) int {
		var logged logLines
		e := engine.New(engine.Options{OpenStore: openSQLite(path), Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		err := e.Start(t.Context())
		if push {
			e.Push(&relay.Settings{})
		}
		if err := errors.Join(err, e.Close()); err != nil {
			t.Error(err)
		}
		return logged.count("callbacks get 503 until it can")
	}
	if without, with := refused(false), refused(true); without != 0 || with != 1 {
		t.Errorf("%d lines say that callbacks get 503 where there are none, %d where there may be", without, with)
	}
	w := g.send(callback("task-1"))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("answered %d %v", w.Code, w.Header())
	}
	if st := g.Status(context.Background()); st.Store.Up || st.Store.Error == "" {
		t.Errorf("status of the store is %+v", st.Store)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	g.await("the store is open", func() bool { return g.send(callback("task-1")).Code == http.StatusOK })
	c.next(t)
}

// Reloads while callbacks arrive lose nothing and deliver nothing twice.
func TestReloadUnderLoad(t *testing.T) {
	c := newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", c.URL))
	const events = 500
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range events {
			g.accept("task-" + strconv.Itoa(i))
		}
	}()
	old := g.Push(g.settings())
	for running := true; running; {
		next := g.Push(g.settings())
		old.Withdraw()
		old = next
		select {
		case <-done:
			running = false
		default:
		}
	}
	seen := map[string]bool{}
	for range events {
		id := c.next(t).header.Get("Webhook-Id")
		if seen[id] {
			t.Errorf("event %s was delivered twice", id)
		}
		seen[id] = true
	}
}

// A restart does not hide when a source was called last: it may have been silent for long.
func TestLastCallbackAfterARestart(t *testing.T) {
	path, redis := filepath.Join(t.TempDir(), "relay.db"), redistest.Start(t)
	for name, start := range map[string]func(*testing.T) *gateway{
		"sqlite": func(t *testing.T) *gateway {
			t.Helper()
			return startGateway(t, path, openSQLite(path), newSource())
		},
		"redis": func(t *testing.T) *gateway {
			t.Helper()
			return newRedisGateway(t, redis, newSource())
		},
	} {
		t.Run(name, func(t *testing.T) {
			const metric = "caddy_relay_last_callback_timestamp_seconds"
			first := start(t)
			first.mustAccept("task-1")
			called := values(t, first.metrics, metric)
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			second := start(t)
			second.await("the time is known again", func() bool { return len(values(t, second.metrics, metric)) > 0 })
			if again := values(t, second.metrics, metric); len(called) != 1 || math.Abs(again[""]-called[""]) > .001 {
				t.Errorf("the last callback came at %v, and after the restart at %v", called, again)
			}
		})
	}
}
