package spooling_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/engine/spooling"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// messages is a log of which only the messages are kept.
type messages struct {
	slog.Handler
	lines *[]string
}

func (m messages) Enabled(context.Context, slog.Level) bool { return true }
func (m messages) WithAttrs([]slog.Attr) slog.Handler       { return m }

func (m messages) Handle(_ context.Context, r slog.Record) error {
	*m.lines = append(*m.lines, r.Level.String()+" "+r.Message)
	return nil
}

// refusing is a spool whose disk refuses every write while full is set, which it finds out when it writes.
type refusing struct {
	*spool.Spool
	full *atomic.Bool
	ill  atomic.Bool
}

var errFull = errors.New("the disk is full")

func (r *refusing) Append(accepts []*relay.Accept) error {
	if r.ill.Store(r.full.Load()); r.ill.Load() {
		return errFull
	}
	return r.Spool.Append(accepts)
}

func (r *refusing) Remove(items []*relay.Spooled) error {
	r.ill.Store(r.full.Load())
	err := r.Spool.Remove(items)
	if r.ill.Load() {
		return errFull
	}
	return err
}

func (r *refusing) Refuse(item *relay.Spooled, reason string) (bool, error) {
	r.ill.Store(r.full.Load())
	stuck, err := r.Spool.Refuse(item, reason)
	if r.ill.Load() {
		return stuck, errFull
	}
	return stuck, err
}

func (r *refusing) Probe() error {
	if r.ill.Store(r.full.Load()); r.ill.Load() {
		return errFull
	}
	return r.Spool.Probe()
}

func (r *refusing) Stat() relay.SpoolStat {
	stat := r.Spool.Stat()
	if r.ill.Load() {
		stat.Error = errFull.Error()
	}
	return stat
}

// accepting is a store that accepts whatever it is given but one event, unless it is down.
type accepting struct {
	relay.Store
	down *atomic.Bool
	but  *atomic.Pointer[string]
}

func (accepting) PerSource() bool { return true }

func (s accepting) Apply(_ context.Context, b *relay.Batch) {
	for _, a := range b.Accepts {
		switch but := s.but.Load(); {
		case s.down.Load():
			a.Err = relay.ErrUnavailable
		case but != nil && *but == a.Event.ID:
			a.Err = relay.ErrRefused
		}
	}
}

func accept(n int) *commit.Accepting {
	a := &commit.Accepting{Done: make(chan struct{})}
	a.Event = &relay.Event{ID: fmt.Sprint(n), Source: "vocals", Key: sha256.Sum256([]byte{byte(n)}), Headers: relay.Headers{}, Body: []byte("{}")}
	a.Window = time.Hour
	_ = a.Abandon(relay.ErrUnavailable)
	return a
}

// world is a spooler with a spool in a file, and a store.
type world struct {
	*spooling.Spooling
	t          *testing.T
	down, full atomic.Bool
	but        atomic.Pointer[string] // the event that the store refuses
	lines      []string               // of the log
	stored     []string               // the events that the store got out of the spool
	committers *commit.Committers
}

func start(t *testing.T, path string) *world {
	w := &world{t: t}
	logger := slog.New(messages{slog.DiscardHandler, &w.lines})
	counts := meter.New()
	access := commit.NewAccess()
	w.committers = commit.New(commit.Params{Meter: counts, Logger: func() *slog.Logger { return logger }, Stored: func(*relay.Accept) {}})
	store := accepting{down: &w.down, but: &w.but}
	w.committers.Run(store, nil)
	access.Opened(store)
	w.Spooling = spooling.New(spooling.Params{
		Open: func(ctx context.Context) (relay.Spool, error) {
			inner, err := spool.Open(ctx, spool.Options{Path: path})
			return &refusing{Spool: inner, full: &w.full}, err
		},
		Access: access, Commit: w.committers, Meter: counts, Logger: func() *slog.Logger { return logger },
		Stored: func(a *relay.Accept) { w.stored = append(w.stored, a.Event.ID) },
	})
	w.Open(t.Context())
	return w
}

// divert has the spool take an event.
func (w *world) divert(n int, want error) {
	w.t.Helper()
	a := accept(n)
	w.Spooler().Divert(a)
	if err := w.Spooler().Take(w.t.Context(), &a.Accept); !errors.Is(err, want) {
		w.t.Errorf("%d: %v", n, err)
	}
	<-time.After(300 * time.Millisecond)
}

// logged compares what was logged since it was last asked.
func (w *world) logged(want ...string) {
	w.t.Helper()
	synctest.Wait()
	if !reflect.DeepEqual(w.lines, want) {
		w.t.Errorf("the log says %q, not %q", w.lines, want)
	}
	w.lines = nil
}

func (w *world) end() {
	w.Stop()
	if err := w.Close(); err != nil {
		w.t.Error(err)
	}
	w.committers.Stop()
}

// The log says once that the spool refuses callbacks, and that they go there only if they do.
func TestTheLogOfASpoolThatRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	synctest.Test(t, func(t *testing.T) {
		w := start(t, path)
		w.logged("INFO spool opened")
		w.down.Store(true)
		w.full.Store(true)
		for n := range 20 {
			w.divert(n, errFull)
		}
		w.logged("ERROR spool unhealthy; callbacks get 503 while the store cannot accept them")
		w.full.Store(false)
		<-time.After(time.Second)
		w.logged("INFO spool healthy again")
		for n := range 20 {
			w.divert(100+n, nil)
		}
		w.logged("WARN store does not accept callbacks; they go to the spool")
		w.down.Store(false)
		<-time.After(5 * time.Second)
		w.logged("INFO spool drained; callbacks go to the store again")
		w.end()
	})
}

// A spool whose disk is full does not keep callbacks from a store that is up again, neither those that it holds nor new ones.
func TestDrainOntoAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	synctest.Test(t, func(t *testing.T) {
		w := start(t, path)
		w.logged("INFO spool opened")
		w.down.Store(true)
		want := []string(nil)
		for n := range 300 {
			w.divert(n, nil)
			want = append(want, fmt.Sprint(n))
		}
		w.full.Store(true)
		w.down.Store(false)
		<-time.After(5 * time.Second)
		if synctest.Wait(); !reflect.DeepEqual(w.stored, want) {
			t.Errorf("the store got %q", w.stored)
		}
		if w.Spooler().Follows(t.Context(), "vocals", time.Now().Add(time.Second)) {
			t.Error("new callbacks go to the spool")
		}
		w.logged("WARN store does not accept callbacks; they go to the spool",
			"ERROR spool unhealthy; callbacks get 503 while the store cannot accept them", "INFO spool drained; callbacks go to the store again")
		w.end()
	})
}

// What the store refuses is set aside though the spool's disk is full, and nothing waits for it.
func TestRefusedOntoAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	synctest.Test(t, func(t *testing.T) {
		w := start(t, path)
		w.down.Store(true)
		for n := range 6 {
			w.divert(n, nil)
		}
		refused := "3"
		w.but.Store(&refused)
		w.full.Store(true)
		w.down.Store(false)
		<-time.After(time.Minute)
		if synctest.Wait(); !reflect.DeepEqual(w.stored, []string{"0", "1", "2", "4", "5"}) {
			t.Errorf("the store got %q", w.stored)
		}
		if w.Spooler().Follows(t.Context(), "vocals", time.Now().Add(time.Second)) {
			t.Error("new callbacks go to the spool")
		}
		if stat, _, _, _ := w.Stat(); stat.Events != 0 || stat.Stuck != 1 {
			t.Errorf("the state is %+v", stat)
		}
		again := "WARN spooled callback refused by the store; trying again"
		w.logged("INFO spool opened", "WARN store does not accept callbacks; they go to the spool",
			"ERROR spool unhealthy; callbacks get 503 while the store cannot accept them",
			again, again, again, again, again, again, again, again, again,
			"ERROR spooled callback refused by the store: it is set aside in the spool and needs an operator",
			"INFO spool drained; callbacks go to the store again")
		w.end()
	})
}

// A spool that the config before a reload still has does not hold up the start, and is opened soon after that has closed it.
func TestASpoolThatTheConfigBeforeHas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	synctest.Test(t, func(t *testing.T) {
		before, err := spool.Open(t.Context(), spool.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := before.Append([]*relay.Accept{&accept(1).Accept}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		w := start(t, path)
		if took := time.Since(begin); took != 0 {
			t.Errorf("the start took %s", took)
		}
		<-time.After(time.Minute)
		w.logged("WARN spool is still in use by the config before this one, and opened once that has stopped; until then callbacks get 503 while the store cannot accept them")
		if _, _, up, err := w.Stat(); up || !errors.Is(err, relay.ErrStoreHeld) {
			t.Errorf("open: %t, %v", up, err)
		}
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		<-time.After(500 * time.Millisecond)
		w.logged("INFO spool opened", "INFO spool drained; callbacks go to the store again")
		if !reflect.DeepEqual(w.stored, []string{"1"}) {
			t.Errorf("the store got %q", w.stored)
		}
		w.end()
	})
}
