package relay

import (
	"context"
	"time"
)

const (
	sweepLongest  = time.Minute
	sweepShortest = time.Second
	healthTimeout = 2 * time.Second
	sweepPause    = 5 * time.Millisecond
)

// sweep gives up what has expired and deletes what is past its retention, until the engine stops.
func (e *Engine) sweep(store Store) {
	var ill string
	for {
		s, sure := e.lastingSettings()
		ill = e.checkHealth(store, s, ill)
		if sure {
			e.expire(e.ctx, store, s)
			e.purge(e.ctx, store, s)
		}
		select {
		case <-e.stop:
			return
		case <-e.resweep: // what the new settings watch over may be shorter
		case <-time.After(s.sweepEvery()):
		}
	}
}

// lastingSettings gives the current settings, and says whether they are there to stay: while a reload may yet fail, what
// they would give up or delete must not go.
func (e *Engine) lastingSettings() (s *Settings, sure bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settings.Load(), len(e.generations) == 1
}

// checkHealth logs what is wrong with the store, once until that changes.
func (e *Engine) checkHealth(store Store, s *Settings, before string) (ill string) {
	ctx, cancel := context.WithTimeout(e.ctx, healthTimeout)
	defer cancel()
	if err := store.Health(ctx); err != nil && e.ctx.Err() == nil {
		ill = err.Error()
	}
	switch {
	case ill == before:
	case ill != "":
		s.Logger.Error("store is not well", "error", ill)
	default:
		s.Logger.Info("store is well again")
	}
	if e.healthy.Store(ill == ""); ill == "" {
		e.committers.recovered()
	}
	return ill
}

// sweepEvery is a tenth of the shortest time that the sweeper watches over.
func (s *Settings) sweepEvery() time.Duration {
	shortest := 10 * sweepLongest
	consider := func(d time.Duration) {
		if d > 0 {
			shortest = min(shortest, d)
		}
	}
	consider(s.Retention)
	consider(s.DeadLetterRetention)
	for _, src := range s.Sources {
		for _, dst := range src.Destinations {
			consider(dst.Expire)
		}
	}
	return max(shortest/10, sweepShortest)
}

// expire gives up what a held or paused destination has kept for too long. What is not held is leased when it expires.
func (e *Engine) expire(ctx context.Context, store Store, s *Settings) {
	for _, c := range store.Counts() {
		dst := s.destination(c.Source, c.Destination)
		if dst == nil || dst.Expire <= 0 || c.Pending == 0 {
			continue
		}
		for ctx.Err() == nil {
			start := time.Now()
			expired, err := store.Expire(ctx, c.Source, c.Destination, dst.Expire)
			e.metrics.observeStore("expire", start, err)
			if err != nil {
				s.Logger.Error("expired deliveries cannot be given up yet", "source", c.Source, "destination", c.Destination, "error", err)
				break
			}
			for _, d := range expired {
				e.gaveUp(d)
			}
			if len(expired) < MaxTouched || !e.breathe() {
				break
			}
		}
		if l := e.lane(c.Source, c.Destination); l != nil && dst.OrderTask {
			l.wake() // what expired may have stood before others of its task
		}
	}
}

// purge deletes what is past its retention, in small steps.
func (e *Engine) purge(ctx context.Context, store Store, s *Settings) {
	if len(s.Sources) == 0 {
		return // nothing is configured yet, or any more: there is no retention to go by
	}
	policy := PurgePolicy{
		Retention: s.Retention, DeadLetterRetention: s.DeadLetterRetention,
		Windows: make(map[string]time.Duration, len(s.Sources)), DefaultWindow: DefaultDedupeWindow,
	}
	for name, src := range s.Sources {
		policy.Windows[name] = src.DedupeWindow
	}
	letters := map[DestinationName]int{}
	defer func() {
		for name, n := range letters {
			s.Logger.Warn("dead letters past their retention were purged", "source", name.Source, "destination", name.Destination, "dead_letters", n)
		}
	}()
	for ctx.Err() == nil {
		start := time.Now()
		res, err := store.Purge(ctx, policy)
		e.metrics.observeStore("purge", start, err)
		for name, n := range res.Deliveries { // even after an error, which may be of another source
			e.metrics.purged.WithLabelValues(name.Source, name.Destination).Add(float64(n))
		}
		for name, n := range res.DeadLetters {
			letters[name] += n
		}
		if err != nil {
			s.Logger.Error("purge failed; it is tried again", "error", err)
			return
		}
		if !res.More || !e.breathe() {
			return
		}
	}
}

// breathe lets callbacks through between two steps of a long sweep. It is false when the engine stops.
func (e *Engine) breathe() bool {
	select {
	case <-e.stop:
		return false
	case <-time.After(sweepPause):
		return true
	}
}
