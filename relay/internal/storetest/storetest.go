// Package storetest is the suite that every relay.Store passes, unchanged: what the engine relies on, and no more.
//
// A store's test is one call of [Run]. The suite never sleeps: it moves the store's clock by [Harness.Advance]. A store
// whose clock also runs by itself (Redis) is fine: times are compared with some slack.
package storetest

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// T has the methods of a test that the suite needs: of a testing.T, or of a rapid.T that tries a sequence of the model's.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Output() io.Writer
}

// Harness is a store under test, empty at first, with what a test does to it from outside. The one who makes it sees to
// it that everything is closed when the test ends (T.Cleanup).
type Harness struct {
	Store relay.Store
	// Advance moves the store's clock forward, and with it the clock of the times that a store shows (DeadAt).
	Advance func(d time.Duration)
	// Reopen closes Store and sets it to another one of the same data, as another process would open it.
	Reopen func()
	// Another opens a second client of the same data. Nil where a store belongs to one process.
	Another func() relay.Store
	// Refresh makes what Counts answers current. Nil where it always is.
	Refresh func(relay.Store)
	// Parted is set if a source is parted, so that only the events of one task keep an order among them: what is leased first,
	// and where it stands in a list, is not theirs to say.
	Parted bool
	// VoidsLeases is set if leases end with the process that holds them.
	VoidsLeases bool
}

// Run runs the suite. Each test opens a store of its own.
func Run(t *testing.T, open func(t T) *Harness) {
	for _, theme := range []struct {
		name  string
		tests []test
	}{
		{"Accept", acceptTests},
		{"Window", windowTests},
		{"Lease", leaseTests},
		{"LeaseAtAccept", leaseAtAcceptTests},
		{"LeaseExpiry", leaseExpiryTests},
		{"Settle", settleTests},
		{"Probe", probeTests},
		{"Order", orderTests},
		{"Behind", behindTests},
		{"Files", filesTests},
		{"Expire", expireTests},
		{"Pause", pauseTests},
		{"Replay", replayTests},
		{"ReplayAll", replayAllTests},
		{"Redrive", redriveTests},
		{"Reassign", reassignTests},
		{"Discard", discardTests},
		{"Purge", purgeTests},
		{"List", listTests},
		{"Lifecycle", lifecycleTests},
		{"Task", taskTests},
	} {
		t.Run(theme.name, func(t *testing.T) {
			for _, test := range theme.tests {
				t.Run(test.name, func(t *testing.T) { test.run(&bench{Harness: open(t), t: t}) })
			}
		})
	}
}

// test is one test of a theme.
type test struct {
	name string
	run  func(b *bench)
}

// amongTasks returns a test that is skipped where a source is parted: such a one keeps no order among tasks.
func amongTasks(run func(b *bench)) func(b *bench) {
	return func(b *bench) {
		if b.Parted {
			b.t.Skip("a source that is parted keeps no order among tasks")
		}
		run(b)
	}
}
