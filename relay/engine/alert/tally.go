package alert

import (
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// unverifiedInRow is how many callbacks in a row must fail verification for an alert: fewer are a scanner's or a slip.
const unverifiedInRow = 5

// Tally counts what became of callbacks and expected tasks, as alerts need it. Its zero value is empty. Its methods may be
// called concurrently, and never wait.
type Tally struct {
	mu      sync.Mutex
	sources map[string]*sourceTally
}

// sourceTally is the state of one source.
type sourceTally struct {
	called     time.Time // when the last callback came that was not rejected; zero: none yet
	unverified int64     // since the last one that was verified
	denied     streak
	givenUp    streak // tasks
}

// streak counts what comes again within a while.
type streak struct {
	n    int64
	last time.Time
}

func (s *streak) add(now time.Time) { *s = streak{s.n + 1, now} }

// end ends a streak to which nothing was added for a while.
func (s *streak) end(now time.Time, while time.Duration) {
	if now.Sub(s.last) >= while {
		*s = streak{}
	}
}

// Count counts a callback by its result, one of relay.Results.
func (t *Tally) Count(source, result string, now time.Time) {
	t.update(source, func(s *sourceTally) {
		switch result {
		case relay.ResultUnverified:
			s.unverified++
		case relay.ResultDenied:
			s.denied.add(now)
		case relay.ResultInvalid, relay.ResultTooLarge, relay.ResultUnavailable: // nothing is known about its signature
		default:
			s.unverified = 0
			s.called = now
		}
	})
}

// GaveUp counts an expected task that was given up.
func (t *Tally) GaveUp(source string, now time.Time) {
	t.update(source, func(s *sourceTally) { s.givenUp.add(now) })
}

func (t *Tally) update(source string, f func(*sourceTally)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sources == nil {
		t.sources = map[string]*sourceTally{}
	}
	s := t.sources[source]
	if s == nil {
		s = &sourceTally{}
		t.sources[source] = s
	}
	f(s)
}

// of returns the state of a source. Streaks end when nothing was added for a while.
func (t *Tally) of(source string, now time.Time, while time.Duration) sourceTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[source]
	if s == nil {
		return sourceTally{}
	}
	s.denied.end(now, while)
	s.givenUp.end(now, while)
	return *s
}
