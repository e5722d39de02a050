// Package spooling sends callbacks to the spool while the store cannot accept them, and hands them over in order once it
// can.
package spooling

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	// openPause bounds the pause between two tries to open the spool.
	openPause = 30 * time.Second
	// heldPause is the pause while the config before a reload has the spool, which is to be missed as briefly as possible.
	heldPause = 200 * time.Millisecond
)

// errOpening is why the spool is not open before Open.
var errOpening = errors.New("it is opened after the store, which is still being opened")

// Params are the dependencies of spooling.
type Params struct {
	// Open opens the spool; nil: there is none.
	Open   func(context.Context) (relay.Spool, error)
	Access *commit.Access
	Commit *commit.Committers
	// Stored is called for each accept that the store has accepted from the spool.
	Stored func(*relay.Accept)
	Meter  *meter.Metrics
	Logger func() *slog.Logger // of the current settings; it never blocks
}

// Spooling is the spool of an engine, which may not be open yet.
type Spooling struct {
	params  Params
	spooler atomic.Pointer[Spooler]
	ctx     context.Context
	cancel  context.CancelFunc
	loops   sync.WaitGroup

	mu  sync.Mutex
	err error // why the spool is not open
}

// New returns spooling that does nothing before Open.
func New(p Params) *Spooling {
	s := &Spooling{params: p, err: errOpening}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Open opens the spool, or keeps trying until Close: without one, callbacks get 503 while the store cannot accept them.
func (s *Spooling) Open(ctx context.Context) {
	if s.params.Open == nil {
		return
	}
	err := s.open(ctx)
	if err == nil {
		return
	}
	s.warn(err)
	s.loops.Go(func() { s.reopen(err) })
}

// reopen tries until the spool is open, or Stop.
func (s *Spooling) reopen(err error) {
	for pause := time.Second; err != nil; pause = min(2*pause, openPause) {
		if errors.Is(err, relay.ErrStoreHeld) {
			pause = heldPause
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(pause):
		}
		before := err.Error()
		if err = s.open(s.ctx); err != nil && err.Error() != before && s.ctx.Err() == nil {
			s.warn(err)
		}
	}
}

// warn logs why the spool is not open.
func (s *Spooling) warn(err error) {
	if errors.Is(err, relay.ErrStoreHeld) {
		s.params.Logger().Warn("spool is still in use by the config before this one, and opened once that has stopped; "+
			"until then callbacks get 503 while the store cannot accept them", "error", err)
		return
	}
	s.params.Logger().Error("spool cannot be opened; callbacks get 503 while the store cannot accept them", "error", err)
}

func (s *Spooling) open(ctx context.Context) (err error) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = err
	}()
	var spool relay.Spool
	err = guard.Step(func() (err error) {
		spool, err = s.params.Open(ctx)
		return err
	})
	if err != nil {
		return err
	}
	spooler, err := newSpooler(s.params, spool, s.ctx.Done(), &s.loops)
	if err != nil {
		return errors.Join(err, spool.Close())
	}
	stat := spool.Stat()
	s.params.Logger().Info("spool opened", "path", stat.Path, "events", stat.Events, "stuck", stat.Stuck)
	spooler.start()
	s.spooler.Store(spooler)
	return nil
}

// Spooler returns the spooler, or nil while no spool is open.
func (s *Spooling) Spooler() *Spooler { return s.spooler.Load() }

// Stop ends drains and appends, and waits for them. What has come before is in the spool then.
func (s *Spooling) Stop() {
	s.cancel()
	s.loops.Wait()
}

// Close closes the spool after Stop, and logs loudly what stays in it: that is lost with the disk of this node (10).
func (s *Spooling) Close() error {
	spooler := s.spooler.Swap(nil)
	if spooler == nil {
		return nil
	}
	if stat := spooler.spool.Stat(); stat.Events+stat.Stuck > 0 {
		s.params.Logger().Error("the spool is not empty: its callbacks are delivered when this gateway runs again with the same spool",
			"path", stat.Path, "events", stat.Events, "stuck", stat.Stuck, "oldest", stat.Oldest)
	}
	return spooler.spool.Close()
}

// Stat describes the spool. up reports whether it is open; err is why not. configured reports whether there
// is to be one.
func (s *Spooling) Stat() (stat relay.SpoolStat, configured, up bool, err error) {
	if s.params.Open == nil {
		return stat, false, false, nil
	}
	if spooler := s.spooler.Load(); spooler != nil {
		return spooler.spool.Stat(), true, true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return relay.SpoolStat{Free: -1}, true, false, s.err
}

// Spoolable reports whether an accept that failed so belongs into the spool.
func Spoolable(err error) bool {
	return errors.Is(err, relay.ErrUnavailable) || errors.Is(err, relay.ErrStoreFull) || errors.Is(err, context.DeadlineExceeded)
}
