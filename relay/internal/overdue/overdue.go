// Package overdue looks after what waits with a deadline, without a timer for each: one look at all of it from time to
// time, for as long as anything waits.
package overdue

import (
	"sync"
	"sync/atomic"
	"time"
)

// Every is the time between two looks, by which a deadline may be late.
const Every = 25 * time.Millisecond

// Lookout calls a function for as long as it reports that something waits. Its methods may be called concurrently.
type Lookout struct {
	look  func(now time.Time) (waiting bool)
	awake atomic.Bool
	stop  chan struct{}

	mu      sync.Mutex // guards what follows
	stopped bool
	loops   sync.WaitGroup
}

// New returns a lookout that calls look, which must not block, from a goroutine of its own.
func New(look func(now time.Time) (waiting bool)) *Lookout {
	return &Lookout{look: look, stop: make(chan struct{})}
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
			if l.look(now) {
				continue
			}
		}
		l.awake.Store(false)
		// Who began to wait before this may have taken the lookout for awake.
		if !l.look(time.Now()) || !l.awake.CompareAndSwap(false, true) {
			return
		}
	}
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
