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

// accepting is a store that accepts whatever it is given, unless it is down.
type accepting struct {
	relay.Store
	down *atomic.Bool
}

func (accepting) PerSource() bool { return true }

func (s accepting) Apply(_ context.Context, b *relay.Batch) {
	for _, a := range b.Accepts {
		if s.down.Load() {
			a.Err = relay.ErrUnavailable
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

// The log says once that the spool refuses callbacks, and that they go there only if they do.
func TestTheLogOfASpoolThatRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	synctest.Test(t, func(t *testing.T) {
		var down, full atomic.Bool
		var lines []string
		logger := slog.New(messages{slog.DiscardHandler, &lines})
		counts := meter.New()
		access := commit.NewAccess()
		committers := commit.New(commit.Params{Meter: counts, Logger: func() *slog.Logger { return logger }, Stored: func(*relay.Accept) {}})
		store := accepting{down: &down}
		committers.Run(store, nil)
		access.Opened(store)
		s := spooling.New(spooling.Params{
			Open: func(ctx context.Context) (relay.Spool, error) {
				inner, err := spool.Open(ctx, spool.Options{Path: path})
				return &refusing{Spool: inner, full: &full}, err
			},
			Access: access, Commit: committers, Stored: func(*relay.Accept) {}, Meter: counts, Logger: func() *slog.Logger { return logger },
		})
		s.Open(t.Context())
		divert := func(n int, want error) {
			t.Helper()
			a := accept(n)
			s.Spooler().Divert(a)
			if err := s.Spooler().Take(t.Context(), &a.Accept); !errors.Is(err, want) {
				t.Errorf("%d: %v", n, err)
			}
			<-time.After(300 * time.Millisecond)
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if !reflect.DeepEqual(lines, want) {
				t.Errorf("the log says %q, not %q", lines, want)
			}
			lines = nil
		}

		expect("INFO spool opened")
		down.Store(true)
		full.Store(true)
		for n := range 20 {
			divert(n, errFull)
		}
		expect("ERROR spool unhealthy; callbacks get 503 while the store cannot accept them")
		full.Store(false)
		<-time.After(time.Second)
		expect("INFO spool healthy again")
		for n := range 20 {
			divert(100+n, nil)
		}
		expect("WARN store does not accept callbacks; they go to the spool")
		down.Store(false)
		<-time.After(5 * time.Second)
		expect("INFO spool drained; callbacks go to the store again")

		s.Stop()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		committers.Stop()
	})
}

// A spool that another config of this process still has does not hold up the start, and is opened soon after that is closed.
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
		var lines []string
		logger := slog.New(messages{slog.DiscardHandler, &lines})
		access := commit.NewAccess()
		access.Failed(relay.ErrUnavailable)
		s := spooling.New(spooling.Params{
			Open:   func(ctx context.Context) (relay.Spool, error) { return spool.Open(ctx, spool.Options{Path: path}) },
			Access: access, Meter: meter.New(), Logger: func() *slog.Logger { return logger },
		})
		start := time.Now()
		s.Open(t.Context())
		if took := time.Since(start); took != 0 || s.Spooler() != nil {
			t.Errorf("the start took %s", took)
		}
		if _, _, up, err := s.Stat(); up || !errors.Is(err, relay.ErrStoreHeld) {
			t.Errorf("open: %t, %v", up, err)
		}
		<-time.After(time.Minute)
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		<-time.After(500 * time.Millisecond)
		synctest.Wait()
		if stat, _, up, err := s.Stat(); !up || err != nil || stat.Events != 1 {
			t.Errorf("open: %t, with %d events, %v", up, stat.Events, err)
		}
		want := []string{
			"WARN spool is still in use by the config before this one, and opened once that has stopped; until then callbacks get 503 while the store cannot accept them",
			"INFO spool opened",
		}
		s.Stop()
		if !reflect.DeepEqual(lines[:2], want) {
			t.Errorf("the log says %q, not %q", lines, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
