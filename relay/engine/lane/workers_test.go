package lane

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		w := newWorkers()
		gate := make(chan struct{})
		var done sync.WaitGroup
		for range 3 {
			done.Add(1)
			w.run(func() { defer done.Done(); <-gate })
		}
		close(gate)
		done.Wait()
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != 3 {
			t.Errorf("%d workers wait after three attempts at a time", n)
		}
		for range 10 {
			done.Add(1)
			w.run(done.Done)
			synctest.Wait()
		}
		if n := runtime.NumGoroutine() - before; n != 3 {
			t.Errorf("%d workers after ten attempts in turn", n)
		}
		time.Sleep(linger) //nolint:forbidigo // of the bubble
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n != 0 {
			t.Errorf("%d workers wait for too long", n)
		}

		ran := false
		w.run(func() { time.Sleep(time.Minute); ran = true }) //nolint:forbidigo // of the bubble
		w.end()
		if !ran {
			t.Error("the end did not wait for an attempt")
		}
	})
}
