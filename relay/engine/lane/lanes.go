package lane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// Params are the dependencies of lanes.
type Params struct {
	Commit  *commit.Committers
	Courier *courier.Courier
	Meter   *meter.Metrics
	Logger  func() *slog.Logger // of the current settings; it never blocks
	// Settled is called for each settle that is durable, with the status and the error of its attempt; it must not block.
	Settled func(s *relay.Settle, status int, reason string)
	GaveUp  func(relay.DeadLetter) // is called for each dead letter; it must not block
	// Behind reports whether a replayed delivery has to wait for another one of its event.
	Behind func(context.Context, *relay.Destination, *relay.Leased) bool
}

// Lanes are those of an engine, one for each destination that any of its settings named. It owns their attempts.
type Lanes struct {
	params   Params
	ctx      context.Context // attempts in flight are released when it ends
	cancel   context.CancelFunc
	attempts *workers

	mu      sync.Mutex
	lanes   map[relay.DestinationName]*Lane
	stopped bool
}

// New returns no lanes yet: Configure makes them.
func New(p Params) *Lanes {
	ls := &Lanes{params: p, attempts: newWorkers(), lanes: map[relay.DestinationName]*Lane{}}
	ls.ctx, ls.cancel = context.WithCancel(context.Background())
	return ls
}

// Lane implements commit.Lanes.
func (ls *Lanes) Lane(name relay.DestinationName) commit.Lane {
	if l := ls.Get(name); l != nil {
		return l
	}
	return nil
}

// Get returns the lane of a destination, or nil where none was ever configured.
func (ls *Lanes) Get(name relay.DestinationName) *Lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.lanes[name]
}

// For returns the lanes of deliveries of a source, nil where a destination was never configured.
func (ls *Lanes) For(source string, deliveries []relay.NewDelivery) []commit.Lane {
	lanes := make([]commit.Lane, len(deliveries))
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for i, d := range deliveries {
		if l := ls.lanes[relay.DestinationName{Source: source, Destination: d.Destination}]; l != nil {
			lanes[i] = l
		}
	}
	return lanes
}

// Configure passes the current settings on to every lane. With nil none leases any more; what is in flight goes on.
func (ls *Lanes) Configure(s *relay.Settings) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	configured := map[relay.DestinationName]bool{}
	if s != nil {
		for _, src := range s.Sources {
			for _, dst := range src.Destinations {
				name := relay.DestinationName{Source: src.Name, Destination: dst.Name}
				configured[name] = true
				l := ls.lanes[name]
				if l == nil {
					l = newLane(ls, name)
					l.machine.stopped = ls.stopped
					ls.lanes[name] = l
				}
				l.configure(dst)
			}
		}
	}
	for name, l := range ls.lanes {
		if !configured[name] {
			l.configure(nil)
			if s != nil {
				ls.params.Meter.DropLane(name)
			}
		}
	}
}

// Wake wakes the lanes of a source, or all where it is empty: deliveries may have become due.
func (ls *Lanes) Wake(source string) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for name, l := range ls.lanes {
		if source == "" || name.Source == source {
			l.Wake()
		}
	}
}

// WakeFor wakes the lanes of an accepted event.
func (ls *Lanes) WakeFor(a *relay.Accept) {
	for _, d := range a.Deliveries {
		if l := ls.Get(relay.DestinationName{Source: a.Event.Source, Destination: d.Destination}); l != nil {
			l.Wake()
		}
	}
}

// Stop lets no attempt begin any more, waits for those in flight until patience ends, and then releases them. It reports
// whether all came to their end by themselves.
func (ls *Lanes) Stop(patience time.Duration) (drained bool) {
	ls.mu.Lock()
	ls.stopped = true
	for _, l := range ls.lanes {
		l.stop()
	}
	ls.mu.Unlock()
	done := make(chan struct{})
	go func() {
		ls.attempts.end()
		close(done)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		drained = true
	case <-timer.C:
	}
	ls.cancel()
	<-done // an attempt ends at once when its context does
	return drained
}
