package lane

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// serving counts the goroutines of workers. Others of this process may just end or begin.
func serving() int {
	stacks := make([]byte, 1<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("lane.(*workers).serve("))
}

func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
		if n := serving(); n != 3 {
			t.Errorf("%d workers wait after three attempts at a time", n)
		}
		for range 10 {
			done.Add(1)
			w.run(done.Done)
			synctest.Wait()
		}
		if n := serving(); n != 3 {
			t.Errorf("%d workers after ten attempts in turn", n)
		}
		time.Sleep(linger) //nolint:forbidigo // of the bubble
		synctest.Wait()
		if n := serving(); n != 0 {
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
