// Package commit writes what waits, accepts and settles and leases together, in one durable step after the other.
package commit

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/overdue"
)

// Params are the dependencies of committers.
type Params struct {
	Meter  *meter.Metrics
	Logger func() *slog.Logger // of the current settings; it never blocks
	// Stored is told of each accept that was applied, in the order of the store. It must not block.
	Stored func(*relay.Accept)

	overdue *overdue.Lookout // for those who wait too long
}

// Committers are those of an engine: one for each source where the store writes each by itself, so that one which hangs
// holds up no other; else one for all, since a store with a single writer is better served with all that waits at once.
type Committers struct {
	params Params
	stop   chan struct{} // closed when they must end
	loops  sync.WaitGroup

	mu       sync.Mutex
	bySource map[string]*Committer
	store    relay.Store // nil before it is open
	lanes    Lanes
	stopped  bool
}

// New returns committers without a store.
func New(p Params) *Committers {
	cs := &Committers{params: p, stop: make(chan struct{}), bySource: map[string]*Committer{}}
	cs.params.overdue = overdue.New(cs.dismiss, func(err error) {
		p.Logger().Error("ending the wait for a store failed; trying again", "error", err, "stack", guard.Stack(err))
	})
	return cs
}

// dismiss ends the wait for accepts that are overdue, and reports whether others wait.
func (cs *Committers) dismiss(now time.Time) (waiting bool) {
	for _, c := range cs.all() {
		waiting = c.dismiss(now) || waiting
	}
	return waiting
}

func (cs *Committers) all() []*Committer {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return slices.Collect(maps.Values(cs.bySource))
}

// Run lets them write to the store from now on, for those lanes.
func (cs *Committers) Run(store relay.Store, lanes Lanes) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.store, cs.lanes = store, lanes
}

// Of returns the committer of a source, or nil before Run.
func (cs *Committers) Of(source string) *Committer {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.store == nil {
		return nil
	}
	if !cs.store.PerSource() {
		source = ""
	}
	c := cs.bySource[source]
	if c == nil {
		c = newCommitter(cs.params, cs.lanes)
		cs.bySource[source] = c
		if c.closed = cs.stopped; !c.closed {
			store := cs.store
			cs.loops.Go(func() { c.run(store, cs.stop) })
		}
	}
	return c
}

// Healthy reports whether the store did what it was last asked for, by each of them.
func (cs *Committers) Healthy() bool {
	return !slices.ContainsFunc(cs.all(), func(c *Committer) bool { return !c.healthy.Load() })
}

// Recovered notes that whatever failed for them would succeed now.
func (cs *Committers) Recovered() {
	for _, c := range cs.all() {
		c.healthy.Store(true)
	}
}

// Stop writes what is queued and waits for the end. What comes later is refused.
func (cs *Committers) Stop() {
	cs.mu.Lock()
	cs.stopped = true
	cs.mu.Unlock()
	close(cs.stop)
	cs.loops.Wait()
	cs.params.overdue.Stop()
}
