package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// failing is a store that fails accepts by their body, so long as fail says so.
type failing struct {
	relay.Store
	fail func(*relay.Event) error
}

func (f *failing) Apply(ctx context.Context, b *relay.Batch) {
	passed := relay.Batch{Settles: b.Settles, Leases: b.Leases}
	for _, a := range b.Accepts {
		if a.Err = f.fail(a.Event); a.Err == nil {
			passed.Accepts = append(passed.Accepts, a)
		}
	}
	f.Store.Apply(ctx, &passed)
}

// While the store is being opened, the status has why the spool takes nothing either.
func TestSpoolBeforeTheStart(t *testing.T) {
	e := engine.New(engine.Options{OpenSpool: func(context.Context, *slog.Logger) (relay.Spool, error) {
		return nil, errors.New("nobody has started the engine")
	}})
	defer func() { _ = e.Close() }()
	if s := e.Status(t.Context()).Spool; s == nil || s.Up || !strings.Contains(s.Error, "the store, which is still being opened") {
		t.Errorf("the spool is %+v", s)
	}
}

func newSpoolingGateway(t *testing.T, src *relay.Source, fail func(*relay.Event) error, o spool.Options) *gateway {
	t.Helper()
	g := &gateway{t: t, source: src}
	inner := openSQLite(filepath.Join(t.TempDir(), "relay.db"))
	g.Engine = engine.New(engine.Options{
		OpenStore: func(ctx context.Context, _ *slog.Logger) (relay.Store, error) {
			s, err := inner(ctx, slog.New(slog.DiscardHandler))
			return &failing{s, fail}, err
		},
		OpenSpool: func(ctx context.Context, _ *slog.Logger) (relay.Spool, error) { return spool.Open(ctx, o) },
		Logger:    slog.New(slog.DiscardHandler), Version: "test",
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	g.Push(g.settings())
	return g
}

// What the store refuses for what it says is set aside; what came behind it is delivered.
func TestAStuckCallbackBlocksNothing(t *testing.T) {
	t.Parallel()
	c := newConsumer(t, nil)
	var down atomic.Bool
	down.Store(true)
	poison := fmt.Errorf("not this one: %w", relay.ErrRefused)
	d := destination(t, "billing", c.URL)
	d.MaxInFlight = 1 // so that deliveries arrive in the order of their acceptance
	g := newSpoolingGateway(t, newSource(d), func(e *relay.Event) error {
		switch {
		case down.Load():
			return relay.ErrUnavailable
		case strings.Contains(string(e.Body), "poison"):
			return poison
		}
		return nil
	}, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	g.mustAccept("first")
	g.mustAccept("poison")
	g.mustAccept("last")
	if st := g.Status(t.Context()).Spool; st == nil || st.Events != 3 {
		t.Fatalf("spool is %+v", st)
	}
	down.Store(false)
	if r := c.next(t); !strings.Contains(r.body, "first") {
		t.Errorf("first came %s", r.body)
	}
	if r := c.next(t); !strings.Contains(r.body, "last") {
		t.Errorf("then came %s", r.body)
	}
	g.await("the refused one is set aside", func() bool { return g.Status(context.Background()).Spool.Stuck == 1 })
	g.await("nothing waits", func() bool { return g.Status(context.Background()).Spool.Events == 0 })
	g.mustAccept("after")
	c.next(t)
}

func TestAFullSpool(t *testing.T) {
	g := newSpoolingGateway(t, newSource(), func(*relay.Event) error { return relay.ErrUnavailable },
		spool.Options{Path: filepath.Join(t.TempDir(), "spool.db"), MaxBytes: 10})
	w := g.send(callback("one"))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("with a full spool the answer is %d", w.Code)
	}
}

// What an earlier process left in the spool and this one cannot read is set aside; what came behind it is delivered, and
// new callbacks go to the store again.
func TestAnUnreadableEntryBlocksNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	c := newConsumer(t, nil)
	var down atomic.Bool
	down.Store(true)
	fail := func(*relay.Event) error {
		if down.Load() {
			return relay.ErrUnavailable
		}
		return nil
	}
	g := newSpoolingGateway(t, newSource(destination(t, "billing", c.URL)), fail, spool.Options{Path: path})
	g.mustAccept("damaged")
	g.mustAccept("behind")
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sqlitex.ExecuteTransient(conn, "UPDATE item SET meta = x'00' WHERE seq = 1", nil), conn.Close()); err != nil {
		t.Fatal(err)
	}
	down.Store(false)
	if r := c.next(t); !strings.Contains(r.body, "behind") {
		t.Errorf("delivered was %s", r.body)
	}
	g.await("the damaged one is set aside, and nothing waits", func() bool {
		st := g.Status(context.Background()).Spool
		return st.Stuck == 1 && st.Events == 0
	})
	g.mustAccept("after")
	c.next(t)
}

// A conflict that is to be delivered stays one through the spool, and so does its repetition.
func TestConflictsThroughTheSpool(t *testing.T) {
	c := newConsumer(t, nil)
	var down atomic.Bool
	down.Store(true)
	d := destination(t, "billing", c.URL)
	d.OrderTask = true
	src := newSource(d)
	src.DeliverConflicts = true
	g := newSpoolingGateway(t, src, func(*relay.Event) error {
		if down.Load() {
			return relay.ErrUnavailable
		}
		return nil
	}, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	first, second := callbackText("one"), strings.Replace(callbackText("one"), "v.mp3", "v2.mp3", 1)
	var events []string
	for _, body := range []string{first, second, second, first} {
		w := g.send(callbackOf(body))
		if w.Code != http.StatusOK {
			t.Fatalf("answered %d %s", w.Code, w.Body)
		}
		events = append(events, w.Header().Get("Relay-Event-Id"))
	}
	down.Store(false)
	for i, want := range []string{first, second} {
		with := ""
		if i > 0 {
			with = events[0]
		}
		if r := c.next(t); r.body != want || r.header.Get("Webhook-Id") != events[i] || r.header.Get("Relay-Conflict-With") != with {
			t.Errorf("%d was delivered as %+v", i, r)
		}
	}
	g.await("the spool is empty", func() bool { return g.Status(context.Background()).Spool.Events == 0 })
	for i, body := range []string{first, second} {
		w := g.send(callbackOf(body))
		if w.Code != http.StatusOK || w.Header().Get("Relay-Duplicate") != "true" || w.Header().Get("Relay-Event-Id") != events[i] {
			t.Errorf("%d was answered %d %v when it came again", i, w.Code, w.Header())
		}
	}
	rec, err := g.Event(t.Context(), events[0])
	if err != nil || rec.Conflicts != 1 || rec.Duplicates != 2 {
		t.Errorf("%+v, %v", rec, err)
	}
	if n := c.count(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// A conflict that was answered from the spool and that the store cannot keep is set aside there, and not lost.
func TestAConflictThatCannotBeKept(t *testing.T) {
	c := newConsumer(t, nil)
	var down atomic.Bool
	down.Store(true)
	g := newSpoolingGateway(t, newSource(destination(t, "billing", c.URL)), func(*relay.Event) error {
		if down.Load() {
			return relay.ErrUnavailable
		}
		return nil
	}, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	var first string
	for n := range 1 + relay.MaxVariants + 1 {
		w := g.send(callbackOf(strings.Replace(callbackText("one"), "v.mp3", fmt.Sprintf("v%d.mp3", n), 1)))
		if w.Code != http.StatusOK {
			t.Fatalf("%d was answered %d %s", n, w.Code, w.Body)
		}
		if n == 0 {
			first = w.Header().Get("Relay-Event-Id")
		}
	}
	down.Store(false)
	g.await("one is set aside", func() bool {
		st := g.Status(context.Background()).Spool
		return st.Events == 0 && st.Stuck == 1
	})
	rec, err := g.Event(t.Context(), first)
	if err != nil || len(rec.Variants) != relay.MaxVariants {
		t.Errorf("%+v, %v", rec, err)
	}
}

// A callback that comes while store and spool are still being opened is answered from the spool, if the store then cannot be
// opened.
func TestACallbackWaitsForTheSpool(t *testing.T) {
	opening, refuse := make(chan struct{}), make(chan struct{})
	var once sync.Once
	src := newSource(destination(t, "one", newConsumer(t, nil).URL))
	g := &gateway{t: t, source: src}
	g.Engine = engine.New(engine.Options{
		OpenStore: func(context.Context, *slog.Logger) (relay.Store, error) {
			once.Do(func() { close(opening) })
			<-refuse
			return nil, fmt.Errorf("%w: WRONGPASS", relay.ErrUnavailable)
		},
		OpenSpool: func(ctx context.Context, _ *slog.Logger) (relay.Spool, error) {
			return spool.Open(ctx, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
		},
		Logger: slog.New(slog.DiscardHandler), Version: "test",
	})
	g.Push(g.settings())
	started := make(chan error, 1)
	go func() { started <- g.Start(context.Background()) }()
	<-opening
	answered := make(chan int, 1)
	go func() { answered <- g.send(callback("early")).Code }()
	select {
	case code := <-answered:
		t.Fatalf("before the store was open, the answer was %d", code)
	case <-time.After(50 * time.Millisecond): // it waits
	}
	close(refuse)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}()
	if code := <-answered; code != http.StatusOK {
		t.Errorf("the answer was %d", code)
	}
	if st := g.Status(context.Background()).Spool; st.Events != 1 {
		t.Errorf("the spool has %+v", st)
	}
}
