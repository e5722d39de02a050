package sqlitestore

import (
	"crypto/sha256"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// steppedClock is moved by hand. The store's own goroutine reads it as well.
type steppedClock struct{ elapsed, ahead atomic.Int64 }

func (c *steppedClock) clock() Clock {
	begun := time.Now()
	return Clock{
		Elapsed: func() time.Duration { return time.Duration(c.elapsed.Load()) },
		Wall:    func() time.Time { return begun.Add(time.Duration(c.elapsed.Load() + c.ahead.Load())) },
	}
}

// TestASteppedClock sets the wall clock forward and back by a year, in a process and between two. Nothing is purged, forgotten,
// or expires for it; nothing is leased twice, and what is due is so after as much time of the process as before.
func TestASteppedClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	var stepped steppedClock
	clock := stepped.clock()
	path := filepath.Join(t.TempDir(), "relay.db")
	open := func() *Store {
		s, err := Open(t.Context(), Options{Path: path, MinFree: 1, Clock: clock})
		must(t, err)
		return s
	}
	s := open()
	defer func() { must(t, s.Close()) }()
	leased := func() (n int, next time.Duration) {
		l := &relay.Lease{Source: "vocals", Destination: "one", Max: 10, For: 45 * time.Second}
		s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
		must(t, l.Err)
		return len(l.Leased), l.Next
	}
	accept := func(task string) *relay.Accept {
		a := newAccept(task)
		a.Event.Key, a.Deliveries = sha256.Sum256([]byte(task)), []relay.NewDelivery{{Destination: "one"}}
		return a
	}
	settled, retried, held := accept("settled"), accept("retried"), accept("held")
	s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{settled, retried}})
	l := &relay.Lease{Source: "vocals", Destination: "one", Max: 2, For: 45 * time.Second}
	s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
	s.Apply(t.Context(), &relay.Batch{Settles: []*relay.Settle{
		{Leased: l.Leased[0], Outcome: relay.OutcomeDelivered, Attempt: &relay.Attempt{Status: 200}},
		{Leased: l.Leased[1], Outcome: relay.OutcomeRetry, Delay: 5 * time.Hour, Attempt: &relay.Attempt{Status: 500}},
	}})
	s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{held}})
	if n, _ := leased(); n != 1 {
		t.Fatalf("%d are leased", n)
	}

	for _, step := range []time.Duration{year, -2 * year, year} {
		stepped.ahead.Add(int64(step))
		stepped.elapsed.Add(int64(10 * time.Second))
		r, err := s.Purge(t.Context(), relay.PurgePolicy{Retention: time.Hour, DeadLetterRetention: time.Hour, DefaultWindow: time.Hour})
		if err != nil || r.Events != 0 {
			t.Errorf("by %s: purged %+v, error %v", step, r, err)
		}
		if letters, err := s.Expire(t.Context(), "vocals", "one", time.Hour); len(letters) > 0 || err != nil {
			t.Errorf("by %s: expired %+v, error %v", step, letters, err)
		}
		again := accept("settled")
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{again}})
		if again.Result != relay.Duplicate || again.FirstID != settled.Event.ID {
			t.Errorf("by %s: what is known is %v, of %s", step, again.Result, again.FirstID)
		}
		if n, next := leased(); n != 0 || next > 45*time.Second || next <= 0 {
			t.Errorf("by %s: %d are leased, and the next after %s", step, n, next)
		}
	}

	// A stop voids leases, and its length is known by the wall clock alone: an hour of it counts at most.
	for _, step := range []time.Duration{year, -2 * year} {
		must(t, s.Close())
		stepped.ahead.Add(int64(step))
		s = open()
		if n, _ := leased(); n != 1 {
			t.Errorf("by %s in a stop: %d are leased", step, n)
		}
		e, err := s.Event(t.Context(), retried.Event.ID)
		must(t, err)
		if in := e.Deliveries[0].NextAttempt; in > 5*time.Hour-creditAtMost || in < 5*time.Hour-creditAtMost-time.Minute {
			t.Errorf("by %s in a stop: the retry is due in %s", step, in)
		}
		r, err := s.Purge(t.Context(), relay.PurgePolicy{Retention: 2 * time.Hour, DeadLetterRetention: 2 * time.Hour, DefaultWindow: 2 * time.Hour})
		if err != nil || r.Events != 0 {
			t.Errorf("by %s in a stop: purged %+v, error %v", step, r, err)
		}
	}
}
