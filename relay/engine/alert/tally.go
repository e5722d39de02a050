package alert

import (
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// unverifiedInRow is how many callbacks in a row must fail verification for an alert: fewer are a scanner's or a slip.
const unverifiedInRow = 5

// Tally counts what became of callbacks, as alerts need it. Its zero value is empty. Its methods may be called concurrently,
// and never wait.
type Tally struct {
	mu      sync.Mutex
	sources map[string]*sourceTally
}

// sourceTally is the state of one source.
type sourceTally struct {
	called     time.Time // when the last callback came that was not rejected; zero: none yet
	unverified int64     // since the last one that was verified
	denied     int64     // since denials last ended
	lastDenied time.Time
}

// Count counts a callback by its result, one of relay.Results.
func (t *Tally) Count(source, result string, now time.Time) {
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
	switch result {
	case relay.ResultUnverified:
		s.unverified++
	case relay.ResultDenied:
		s.denied++
		s.lastDenied = now
	case relay.ResultInvalid, relay.ResultTooLarge, relay.ResultUnavailable: // nothing is known about its signature
	default:
		s.unverified = 0
		s.called = now
	}
}

// of returns the state of a source. Denials end when none came for a while.
func (t *Tally) of(source string, now time.Time, while time.Duration) sourceTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[source]
	if s == nil {
		return sourceTally{}
	}
	if s.denied > 0 && now.Sub(s.lastDenied) >= while {
		s.denied = 0
	}
	return *s
}
