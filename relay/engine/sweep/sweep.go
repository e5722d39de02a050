// Package sweep does what nobody waits for: it gives up what has expired, deletes what is past its retention, and watches
// the store's health.
package sweep

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/lane"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	sweepLongest  = time.Minute
	sweepShortest = time.Second
	healthEvery   = time.Second
	sharedEvery   = 5 * time.Second // where a look costs a round to another host (5)
	healthTimeout = 2 * time.Second
	otherAfter    = 5 * time.Second // how long another reason must last: at first it may be a leftover of an outage that is over
	sweepPause    = 5 * time.Millisecond
)

// Params are the dependencies of a sweeper.
type Params struct {
	// Settings returns the current settings, and reports whether they are there to stay: while a reload may yet fail, what
	// they would give up or delete must not go.
	Settings func() (s *relay.Settings, lasting bool)
	Commit   *commit.Committers
	Lanes    *lane.Lanes
	Meter    *meter.Metrics
	GaveUp   func(relay.DeadLetter) // is called for each dead letter; it must not block
}

// Sweeper sweeps the store of an engine.
type Sweeper struct {
	params Params
	again  chan struct{} // capacity 1: other settings count now

	recalled map[string]bool // the sources of which it is known when they were called last; belongs to Run

	looking sync.Mutex // held during a look at the store
	trouble string     // the reason that was logged last; empty while the store is healthy
	other   string     // the reason of the last look, where it is another one
	since   time.Time  // when that came up
	healthy atomic.Bool
}

// New returns a sweeper that does nothing before Run.
func New(p Params) *Sweeper {
	s := &Sweeper{params: p, again: make(chan struct{}, 1), recalled: map[string]bool{}}
	s.healthy.Store(true)
	return s
}

// Again has the sweeper sweep at once, since other settings count now.
func (s *Sweeper) Again() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// Healthy reports whether the store was healthy when it was last looked at.
func (s *Sweeper) Healthy() bool { return s.healthy.Load() }

// Run sweeps until ctx ends.
func (s *Sweeper) Run(ctx context.Context, store relay.Store) {
	look := healthEvery
	if _, shared := store.(relay.SharedStore); shared {
		look = sharedEvery
	}
	var next time.Time // of the sweeps
	for {
		settings, lasting := s.params.Settings()
		err := guard.Step(func() error {
			if s.Look(ctx, store) == nil { // else it is logged there
				s.recall(ctx, store, settings)
			}
			if lasting && !time.Now().Before(next) {
				s.expire(ctx, store, settings)
				s.purge(ctx, store, settings)
			}
			return nil
		})
		if err != nil {
			s.healthy.Store(false)
			s.params.Meter.ObserveStore("sweep", time.Now(), err)
			settings.Logger.Error("sweep failed; trying again", "error", err, "stack", guard.Stack(err))
		}
		now := time.Now()
		if !now.Before(next) {
			next = now.Add(every(settings))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.again: // what the new settings watch over may be shorter
			next = time.Time{}
		case <-time.After(min(next.Sub(now), look)):
		}
	}
}

// Look asks for the store's health and returns what is wrong with it, nil if it is healthy. It logs that once until it changes
// for more than a moment.
func (s *Sweeper) Look(ctx context.Context, store relay.Store) error {
	s.looking.Lock()
	defer s.looking.Unlock()
	bounded, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	err := store.Health(bounded)
	if ctx.Err() != nil {
		return err // which is not about the store
	}
	if s.healthy.Store(err == nil); err == nil {
		s.params.Commit.Recovered()
	}
	s.tell(store, err)
	return err
}

// tell logs what has changed. The caller holds looking.
func (s *Sweeper) tell(store relay.Store, err error) {
	settings, _ := s.params.Settings()
	before := s.trouble
	if err == nil {
		s.trouble, s.other = "", ""
		if before != "" {
			settings.Logger.Info("store healthy again", "store", store.Info().Location)
		}
		return
	}
	switch trouble := err.Error(); trouble {
	case before:
		s.other = ""
		return
	case s.other:
	default:
		s.other, s.since = trouble, time.Now()
	}
	if before != "" && time.Since(s.since) < otherAfter {
		return
	}
	s.trouble, s.other = s.other, ""
	settings.Logger.Error("store unhealthy", "store", store.Info().Location, "error", err)
}

// every is a tenth of the shortest time that the sweeper watches over.
func every(s *relay.Settings) time.Duration {
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

// expire makes dead letters of deliveries that a held or paused destination has kept for too long. Others are leased when
// they expire.
func (s *Sweeper) expire(ctx context.Context, store relay.Store, settings *relay.Settings) {
	for _, c := range store.Counts() {
		dst := settings.Destination(c.Source, c.Destination)
		if dst == nil || dst.Expire <= 0 || c.Pending == 0 {
			continue
		}
		gaveUp := false
		for ctx.Err() == nil {
			start := time.Now()
			expired, err := store.Expire(ctx, c.Source, c.Destination, dst.Expire)
			s.params.Meter.ObserveStore("expire", start, err)
			if err != nil {
				settings.Logger.Error("expired deliveries cannot be given up yet", "source", c.Source, "destination", c.Destination, "error", err)
				break
			}
			for _, d := range expired {
				gaveUp = true
				s.params.GaveUp(d)
			}
			if len(expired) < relay.MaxTouched || !breathe(ctx) {
				break
			}
		}
		if gaveUp {
			s.params.Lanes.Wake(c.Source) // what expired may have stood before others of its task or its event
		}
	}
}

// purge deletes what is past its retention, in small steps.
func (s *Sweeper) purge(ctx context.Context, store relay.Store, settings *relay.Settings) {
	if len(settings.Sources) == 0 {
		return // nothing is configured yet, or any more: there is no retention to go by
	}
	policy := relay.PurgePolicy{
		Retention: settings.Retention, DeadLetterRetention: settings.DeadLetterRetention,
		Windows: make(map[string]time.Duration, len(settings.Sources)), DefaultWindow: relay.DefaultDedupeWindow,
	}
	for name, src := range settings.Sources {
		policy.Windows[name] = src.DedupeWindow
	}
	letters := map[relay.DestinationName]int{}
	defer func() {
		for name, n := range letters {
			settings.Logger.Warn("dead letters past their retention were purged", "source", name.Source, "destination", name.Destination, "dead_letters", n)
		}
	}()
	for ctx.Err() == nil {
		start := time.Now()
		res, err := store.Purge(ctx, policy)
		s.params.Meter.ObserveStore("purge", start, err)
		for name, n := range res.Deliveries { // even after an error, which may be of another source
			s.params.Meter.CountPurged(name, n)
		}
		for name, n := range res.DeadLetters {
			letters[name] += n
		}
		if err != nil {
			settings.Logger.Error("purge failed; trying again", "error", err)
			return
		}
		if !res.More || !breathe(ctx) {
			return
		}
	}
}

// breathe lets callbacks through between two steps of a long sweep, and reports whether to go on.
func breathe(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(sweepPause):
		return true
	}
}
