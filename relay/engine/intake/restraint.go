package intake

import (
	"maps"
	"sync"
	"time"
)

const (
	// linesEach is how many lines of a source and a reason the log gets one by one within lineEvery. The others of that time are
	// counted, and become one line at its end: whoever is refused as fast as he can call must not fill the disk.
	linesEach = 10
	lineEvery = time.Minute
)

// restraint decides which lines about callers go to the log by themselves. It is safe for concurrent use.
type restraint struct {
	mu      sync.Mutex
	stopped bool
	bursts  map[reason]*burst
	ending  sync.WaitGroup // bursts whose end is to come
}

// burst holds the lines of a source and a reason since the first one, for lineEvery.
type burst struct {
	lines, held int
	sum         func(held int) // logs how many were held back
	timer       *time.Timer
}

// allow reports whether a line goes to the log by itself. Otherwise it is counted, and sum is called with the count later,
// unless a later line's is.
func (r *restraint) allow(of reason, sum func(held int)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return true
	}
	b := r.bursts[of]
	if b == nil {
		b = &burst{}
		if r.bursts == nil {
			r.bursts = map[reason]*burst{}
		}
		r.bursts[of] = b
		r.ending.Add(1)
		b.timer = time.AfterFunc(lineEvery, func() {
			defer r.ending.Done()
			r.end(of, b)
		})
	}
	if b.lines++; b.lines <= linesEach {
		return true
	}
	b.held, b.sum = b.held+1, sum
	return false
}

// end logs what a burst has held back. sum is called without the lock.
func (r *restraint) end(of reason, b *burst) {
	r.mu.Lock()
	delete(r.bursts, of)
	held, sum := b.held, b.sum
	r.mu.Unlock()
	if held > 0 {
		sum(held)
	}
}

// stop ends all bursts, and waits for that. Later lines are all allowed.
func (r *restraint) stop() {
	r.mu.Lock()
	r.stopped = true
	bursts := maps.Clone(r.bursts)
	r.mu.Unlock()
	for of, b := range bursts {
		if b.timer.Stop() { // else it is ending
			r.end(of, b)
			r.ending.Done()
		}
	}
	r.ending.Wait()
}
