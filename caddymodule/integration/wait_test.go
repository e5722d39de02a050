package integration

import (
	"testing"
	"time"
)

// patience is how long to wait for what should happen at once; only a failing test waits that long.
const patience = 20 * time.Second

// eventually waits until the condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// never waits for a while in which the condition must not come to hold.
func never(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	end := time.NewTimer(within)
	defer end.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if holds() {
			t.Fatal("it happened: ", what)
		}
		select {
		case <-again.C:
		case <-end.C:
			return
		}
	}
}
