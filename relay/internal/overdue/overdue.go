// Package overdue looks after what waits with a deadline, without a timer for each: one look at all of it from time to
// time, for as long as anything waits.
package overdue

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Every is the time between two looks, by which a deadline may be late.
const Every = 25 * time.Millisecond

// Lookout calls a function for as long as it reports that something waits. Its methods may be called concurrently.
type Lookout struct {
	look   func(now time.Time) (waiting bool)
	failed func(error)
	awake  atomic.Bool
	stop   chan struct{}

	mu      sync.Mutex // guards what follows
	stopped bool
	loops   sync.WaitGroup
}

// New returns a lookout that calls look, which must not block, from a goroutine of its own. If it panics, failed gets the
// *guard.PanicError, and the next look follows.
func New(look func(now time.Time) (waiting bool), failed func(error)) *Lookout {
	return &Lookout{look: look, failed: failed, stop: make(chan struct{})}
}

// Watch has the lookout look until nothing waits any more. It is called after something has begun to wait, and costs next
// to nothing while others wait.
func (l *Lookout) Watch() {
	if l.awake.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped && l.awake.CompareAndSwap(false, true) {
		l.loops.Go(l.run)
	}
}

func (l *Lookout) run() {
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case now := <-ticker.C:
			if l.guarded(now) {
				continue
			}
		}
		l.awake.Store(false)
		// Who began to wait before this may have taken the lookout for awake.
		if !l.guarded(time.Now()) || !l.awake.CompareAndSwap(false, true) {
			return
		}
	}
}

// guarded looks, so that a panic does not end the process (12).
func (l *Lookout) guarded(now time.Time) (waiting bool) {
	err := guard.Step(func() error {
		waiting = l.look(now)
		return nil
	})
	if err != nil {
		l.failed(err)
		return true
	}
	return waiting
}

// Stop ends the lookout and waits for that.
func (l *Lookout) Stop() {
	l.mu.Lock()
	if !l.stopped {
		l.stopped = true
		close(l.stop)
	}
	l.mu.Unlock()
	l.loops.Wait()
}
