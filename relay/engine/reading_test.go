package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Who reads page after page is held back while callbacks crowd, and never otherwise.
func TestReadingTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting atomic.Int64
		r := &reading{waiting: waiting.Load}
		read := func(length time.Duration) (waited time.Duration) {
			start := time.Now()
			if err := r.turn(t.Context()); err != nil {
				t.Fatal(err)
			}
			waited = time.Since(start)
			begun := time.Now()
			<-time.After(length)
			r.used(begun)
			return waited
		}
		waiting.Store(64)
		for range 10 {
			if waited := read(100 * time.Millisecond); waited > 0 {
				t.Fatalf("within the burst a page waits %s", waited)
			}
		}
		start := time.Now()
		for range 50 {
			read(20 * time.Millisecond)
		}
		if took := time.Since(start); took < 15*time.Second || took > 25*time.Second {
			t.Errorf("a second of reading takes %s while callbacks crowd, want 20 s", took)
		}
		waiting.Store(crowd - 1)
		if waited := read(10 * time.Second); waited > crowdGone*crowdLook {
			t.Errorf("without a crowd a page waits %s", waited)
		}
		waiting.Store(64)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.turn(ctx); err == nil {
			t.Error("a page waits for its turn after its client has gone")
		}
		<-time.After(readShare * 20 * time.Second)
		if waited := read(0); waited > 0 {
			t.Errorf("after a rest a page waits %s", waited)
		}
	})
}
