package engine

import (
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// Gauges implements meter.Gauged. It answers from memory and never waits for a store.
func (e *Engine) Gauges() meter.Gauges {
	spool, _, _, _ := e.spooling.Stat()
	g := meter.Gauges{Spooled: spool.Events + spool.Stuck, SpoolOldest: spool.Age(), StoreFree: -1}
	store, err := e.Store()
	if err != nil {
		return g
	}
	info := store.Info()
	if info.Unread {
		return g // what nobody has counted yet is no zero
	}
	g.StoreUp, g.StoreFree = e.sweeper.Healthy() && e.committers.Healthy(), info.FreeBytes
	for _, c := range e.taskCounts() {
		g.Tasks = append(g.Tasks, c)
	}
	s := e.settings.Load()
	for _, c := range withNone(s, store.Counts()) {
		dst := s.Destination(c.Source, c.Destination)
		d := meter.DestinationGauges{Count: c, Orphaned: dst == nil}
		if dst != nil && dst.Archiver != nil {
			d.FileLife = dst.FileLife
		}
		if l := e.lanes.Get(relay.DestinationName{Source: c.Source, Destination: c.Destination}); l != nil {
			d.BreakerOpen = l.Breaker().Open
		}
		g.Destinations = append(g.Destinations, d)
	}
	return g
}

// withNone adds the destinations of the settings of which the store has nothing yet.
func withNone(s *relay.Settings, counts []relay.Count) []relay.Count {
	known := make(map[relay.DestinationName]bool, len(counts))
	for _, c := range counts {
		known[relay.DestinationName{Source: c.Source, Destination: c.Destination}] = true
	}
	for _, src := range s.Sources {
		for _, d := range src.Destinations {
			if !known[relay.DestinationName{Source: src.Name, Destination: d.Name}] {
				counts = append(counts, relay.Count{Source: src.Name, Destination: d.Name})
			}
		}
	}
	return counts
}
