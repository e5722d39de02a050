package lane

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/callbackrelay/caddy-relay/relay"
)

// script drives a machine through time, without any of its own passing.
type script struct {
	*testing.T
	machine
	now time.Time
}

func newScript(t *testing.T, dst relay.Destination) *script {
	t.Helper()
	if dst.MaxInFlight == 0 {
		dst.MaxInFlight = 2
	}
	dst.Timeout = 15 * time.Second
	s := &script{T: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.configure(s.now, &dst)
	return s
}

// wants checks what the machine leases now, and whether as a probe.
func (s *script) wants(n int, probe bool) {
	s.Helper()
	if got, isProbe := s.want(s.now, 0); got != n || isProbe != probe {
		s.Fatalf("wants %d (probe: %v), not %d (probe: %v)", got, isProbe, n, probe)
	}
}

// gets hands n leased deliveries over, with the next one due in next.
func (s *script) gets(n int, next time.Duration, probe bool) {
	s.leased(s.now, &relay.Lease{Leased: make([]*relay.Leased, n), Next: next, Probe: probe})
}

// fed checks whether the committer was to be fed, and forgets it.
func (s *script) fed(want bool) {
	s.Helper()
	if s.feed != want {
		s.Fatalf("feeds the committer: %v, not %v", s.feed, want)
	}
	s.feed = false
}

// sleeps checks when the machine wakes by itself, and lets that time come; zero: never.
func (s *script) sleeps(d time.Duration) {
	s.Helper()
	switch {
	case d == 0 && s.alarm.IsZero():
	case d == 0 || s.alarm.IsZero() || s.alarm.Sub(s.now) != d:
		s.Fatalf("wakes at %v, which is in %v, not in %v", s.alarm, s.alarm.Sub(s.now), d)
	default:
		s.now, s.alarm = s.alarm, time.Time{}
		s.wake()
	}
}

func (s *script) settles(outcome relay.Outcome, delay time.Duration) {
	s.settled(s.now, &relay.Settle{Outcome: outcome, Delay: delay})
}

func TestMachineLeasesWhatItCanStart(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.fed(true) // the store may hold something from before
	s.wants(2, false)
	s.wants(0, false) // one lease at a time
	s.gets(2, 0, false)
	s.fed(true) // more is due
	s.wants(0, false)
	s.settles(relay.OutcomeDelivered, 0)
	s.fed(true)
	s.wants(1, false)
	s.gets(1, -1, false)
	s.fed(false) // nothing waits
	s.settles(relay.OutcomeDelivered, 0)
	s.settles(relay.OutcomeDelivered, 0)
	s.fed(false)
	s.wants(0, false)
	s.sleeps(0)
}

func TestMachineWakesForWhatIsDueLater(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.wants(2, false)
	s.gets(0, time.Minute, false)
	s.fed(true) // since it was configured
	s.wants(0, false)
	s.sleeps(time.Minute)
	s.fed(true)
	s.wants(2, false)
	s.gets(1, -1, false)
	s.settles(relay.OutcomeRetry, 5*time.Minute)
	s.sleeps(5 * time.Minute)
	s.wants(2, false)
}

func TestMachineReservesOnlyWithoutABacklog(t *testing.T) {
	s := newScript(t, relay.Destination{})
	if s.reserve(s.now, 0) {
		t.Error("a slot was reserved before the backlog was looked at")
	}
	s.wants(2, false)
	s.gets(0, -1, false)
	for slot, want := range []bool{true, true, false} {
		if s.reserve(s.now, 0) != want {
			t.Errorf("of two slots, number %d was reserved: %v", slot+1, !want)
		}
	}
	s.fed(true)
	s.accepted(s.now, true, true, false)
	s.accepted(s.now, true, false, true) // the store left it pending
	s.fed(true)
	s.wants(1, false)
}

// What a step settles frees slots for what it accepts.
func TestMachineReservesWhatIsAboutToBeFree(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.wants(2, false)
	s.gets(2, -1, false)
	for slot, want := range []bool{true, false} {
		if s.reserve(s.now, 1) != want {
			t.Errorf("of one slot that is about to be free, number %d was reserved: %v", slot+1, !want)
		}
	}
	s.settles(relay.OutcomeDelivered, 0)
	s.accepted(s.now, true, true, false)
	if s.inFlight != 2 || s.promised != 0 {
		t.Errorf("in flight: %d, promised: %d", s.inFlight, s.promised)
	}
}

// Callbacks that keep coming must not make a backlog of what a lease has taken.
func TestMachineLeaseSeesWhatIsAcceptedWithIt(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.feed = false
	s.wants(2, false)
	s.accepted(s.now, false, false, true)
	s.gets(1, -1, false)
	s.fed(false)
	if !s.reserve(s.now, 0) {
		t.Error("no slot was reserved after the backlog had ended")
	}
	s.accepted(s.now, true, false, true) // no lease was on its way
	s.fed(true)
	s.wants(1, false)
}

// A wake that comes while a lease is being applied counts: the store may have looked before.
func TestMachineHearsAWakeDuringALease(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.wants(2, false)
	s.wake()
	s.gets(0, -1, false)
	s.fed(true)
	s.wants(2, false)
}

func TestMachineLeaseThatFails(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.wants(2, false)
	s.leased(s.now, &relay.Lease{Err: errors.New("away")})
	s.sleeps(leaseRetry)
	s.wants(2, false)
}

func TestMachinePause(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.pause(true)
	s.wants(0, false)
	s.pause(false)
	s.wants(2, false)
	s.leased(s.now, &relay.Lease{Paused: true}) // by another gateway
	s.wake()
	s.wants(0, false)
	s.pause(false)
	s.wants(2, false)
	s.pause(false) // while the lease is on its way
	s.feed = false
	s.leased(s.now, &relay.Lease{Paused: true})
	s.fed(true)
	s.wants(2, false)
}

func TestMachineProbesWhatIsHeld(t *testing.T) {
	s := newScript(t, relay.Destination{Breaker: relay.BreakerPolicy{Failures: 2, Probe: 30 * time.Second}})
	s.wants(2, false)
	s.gets(2, 0, false)
	for range 2 {
		s.answered(s.now, 0, "a", 0, false)
		s.settles(relay.OutcomeRetry, time.Minute)
	}
	s.wants(0, false)
	s.sleeps(30 * time.Second)
	s.wants(1, true)
	s.gets(1, 0, true)
	s.wants(0, false) // one probe at a time
	if held, changed := s.answered(s.now, 503, "a", 90*time.Second, true); !held || changed {
		t.Errorf("held: %v, changed: %v", held, changed)
	}
	s.settles(relay.OutcomeRetry, 0)
	s.alarm = time.Time{}
	s.wants(0, false)
	s.sleeps(90 * time.Second) // as the destination asked for
	s.wants(1, true)
	s.gets(1, 0, true)
	if held, changed := s.answered(s.now, 204, "a", 0, true); !held || !changed {
		t.Errorf("held: %v, changed: %v", held, changed)
	}
	s.settles(relay.OutcomeDelivered, 0)
	s.wants(2, false)
}

// Whoever mends a destination's settings need not wait for a probe that was planned under the old ones.
func TestMachineProbesNewSettingsSoon(t *testing.T) {
	s := newScript(t, relay.Destination{Breaker: relay.BreakerPolicy{Failures: 1, Probe: time.Hour}})
	s.wants(2, false)
	s.gets(1, -1, false)
	s.answered(s.now, 0, "a", 0, false)
	s.settles(relay.OutcomeRetry, 0)
	s.wants(0, false)
	s.alarm = time.Time{}
	s.configure(s.now, &relay.Destination{MaxInFlight: 2, Breaker: relay.BreakerPolicy{Failures: 1, Probe: time.Second}})
	s.wants(0, false)
	s.sleeps(time.Second)
	s.wants(1, true)
}

func TestMachineKeepsTheRate(t *testing.T) {
	s := newScript(t, relay.Destination{Rate: rate.Every(10 * time.Second), MaxInFlight: 10})
	s.wants(1, false)
	s.gets(1, 0, false)
	s.wants(0, false)
	s.sleeps(10 * time.Second)
	s.wants(1, false)
}

func TestMachineSpacesDeliveries(t *testing.T) {
	s := newScript(t, relay.Destination{Rate: 50, MaxInFlight: 20})
	begun := s.now
	for range 10 {
		s.wants(1, false)
		s.gets(1, 0, false)
		s.wants(0, false)
		s.sleeps(20 * time.Millisecond)
	}
	s.wants(1, false)
	if took := s.now.Sub(begun); took != 200*time.Millisecond {
		t.Errorf("11 deliveries at 50 a second took %v", took)
	}
}

func TestMachineWithoutSettings(t *testing.T) {
	s := newScript(t, relay.Destination{})
	s.configure(s.now, nil)
	s.wants(0, false)
	if s.reserve(s.now, 0) {
		t.Error("a slot was reserved for a destination that left the config")
	}
	s.configure(s.now, &relay.Destination{MaxInFlight: 1})
	s.wants(1, false)
	s.gets(1, -1, false)
	s.stopped = true
	s.settles(relay.OutcomeRelease, 0)
	s.wants(0, false)
}
