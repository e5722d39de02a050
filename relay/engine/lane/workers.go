package lane

import (
	"sync"
	"time"
)

// linger is how long a worker waits for another attempt.
const linger = 5 * time.Second

// workers run attempts, each on a goroutine of its own. One that has ended an attempt waits for another one, because a new
// goroutine would have to grow its stack first, which costs as much as the request's own work.
type workers struct {
	work chan func()   // for those that wait
	stop chan struct{} // closed when none must wait any more
	all  sync.WaitGroup
}

func newWorkers() *workers { return &workers{work: make(chan func()), stop: make(chan struct{})} }

// run runs f beside the caller.
func (w *workers) run(f func()) {
	select {
	case w.work <- f:
	default: // none waits
		w.all.Go(func() { w.serve(f) })
	}
}

func (w *workers) serve(f func()) {
	patience := time.NewTimer(linger)
	defer patience.Stop()
	for {
		f()
		patience.Reset(linger)
		select {
		case f = <-w.work:
		case <-patience.C:
			return
		case <-w.stop:
			return
		}
	}
}

// end waits for what runs, and ends the workers. Nothing may be run after it.
func (w *workers) end() {
	close(w.stop)
	w.all.Wait()
}
