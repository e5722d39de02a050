package relay

import "slices"

// Generation is a pushed generation of settings.
type Generation struct {
	engine   *Engine
	settings *Settings
}

// Push makes s the current settings until a later push, or until it is withdrawn.
func (e *Engine) Push(s *Settings) *Generation {
	c := *s
	if c.Logger == nil {
		c.Logger = e.options.Logger
	}
	g := &Generation{engine: e, settings: &c}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.generations = append(e.generations, g)
	e.expose()
	if store := e.store.Load(); store != nil {
		e.warnOfOrphans(g.settings, *store)
	}
	return g
}

// Withdraw takes a generation back. If it was the current one, the one before it is current again; with none left,
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

// expose gives every lane the settings of the newest generation. The caller holds e.mu.
func (e *Engine) expose() {
	if len(e.generations) == 0 {
		// Keep the last settings for their drain time and logger, but let no lane lease by them.
		for _, l := range e.lanes {
			l.configure(nil)
		}
		return
	}
	s := e.generations[len(e.generations)-1].settings
	e.settings.Store(s)
	configured := make(map[DestinationName]bool)
	for _, src := range s.Sources {
		for _, dst := range src.Destinations {
			name := DestinationName{src.Name, dst.Name}
			configured[name] = true
			l := e.lanes[name]
			if l == nil {
				l = newLane(e, name)
				e.lanes[name] = l
			}
			l.configure(dst)
		}
	}
	for name, l := range e.lanes {
		if !configured[name] {
			l.configure(nil)
			e.metrics.drop(name)
		}
	}
	e.metrics.keepSources(s.Sources)
	select {
	case e.resweep <- struct{}{}:
	default:
	}
	if store := e.store.Load(); store != nil {
		if shared, ok := (*store).(SharedStore); ok {
			shared.Announce(s.hash())
		}
	}
}

// warnOfOrphans says which deliveries have no destination to go to.
func (e *Engine) warnOfOrphans(s *Settings, store Store) {
	for _, c := range store.Counts() {
		if n := c.Pending + c.InFlight; n > 0 && s.destination(c.Source, c.Destination) == nil {
			s.Logger.Warn("deliveries of a destination that is not in the config are kept as orphaned; configure it again, or discard them",
				"source", c.Source, "destination", c.Destination, "deliveries", n)
		}
	}
}

// destination finds a destination of the settings; nil if there is none.
func (s *Settings) destination(source, name string) *Destination {
	src := s.Sources[source]
	if src == nil {
		return nil
	}
	for _, d := range src.Destinations {
		if d.Name == name {
			return d
		}
	}
	return nil
}
