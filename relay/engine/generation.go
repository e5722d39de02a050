package engine

import (
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Generation is a pushed generation of settings.
type Generation struct {
	engine   *Engine
	settings *relay.Settings
}

// Push makes s the current settings until a later push, or until it is withdrawn (9).
func (e *Engine) Push(s *relay.Settings) *Generation {
	c := *s
	if c.Logger == nil {
		c.Logger = e.options.Logger
	}
	c.Logger = e.report.Logger(c.Logger)
	g := &Generation{engine: e, settings: &c}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.generations = append(e.generations, g)
	e.expose()
	if store, err := e.Store(); err == nil {
		warnOfOrphans(g.settings, store)
	} else if len(e.generations) == 1 {
		e.warnOfStore()
	}
	return g
}

// Withdraw withdraws a generation. If it was the current one, the one before it is current again; with none left,
// nothing is delivered. It may be called more than once.
func (g *Generation) Withdraw() {
	e := g.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.generations, g)
	if i < 0 {
		return
	}
	e.generations = slices.Delete(e.generations, i, i+1)
	e.expose()
}

// expose makes the settings of the newest generation the current ones. The caller holds e.mu.
func (e *Engine) expose() {
	if len(e.generations) == 0 {
		// The last settings stay for their drain time and logger, but no lane leases by them.
		e.lanes.Configure(nil)
		e.poller.Configure(nil)
		return
	}
	s := e.generations[len(e.generations)-1].settings
	e.settings.Store(s)
	e.lanes.Configure(s)
	e.poller.Configure(s.Sources)
	e.meter.KeepSources(s.Sources)
	e.sweeper.Again()
	e.alerts.Changed()
	if store, err := e.Store(); err == nil {
		if shared, ok := store.(relay.SharedStore); ok {
			shared.Announce(s.Hash())
		}
	}
}

// lastingSettings returns the current settings, and reports whether they are there to stay: while a reload may yet fail,
// what they would give up or delete must not go.
func (e *Engine) lastingSettings() (s *relay.Settings, lasting bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settings.Load(), len(e.generations) == 1
}

// warnOfStore logs why the store could not be opened, if it could not. The caller holds e.mu.
func (e *Engine) warnOfStore() {
	if e.unopened != nil {
		e.log().Error("store cannot be opened; callbacks get 503 until it can", "error", e.unopened)
	}
}

// warnOfOrphans logs which deliveries have no destination to go to.
func warnOfOrphans(s *relay.Settings, store relay.Store) {
	for _, c := range store.Counts() {
		if n := c.Pending + c.InFlight; n > 0 && s.Destination(c.Source, c.Destination) == nil {
			s.Logger.Warn("deliveries of a destination that is not in the config are kept as orphaned; configure it again, or discard them",
				"source", c.Source, "destination", c.Destination, "deliveries", n)
		}
	}
}
