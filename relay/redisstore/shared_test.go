package redisstore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// awaitWake waits until a store names a destination as one to wake, as its next look does at the latest.
func awaitWake(t *testing.T, s *redisstore.Store, name relay.DestinationName) {
	t.Helper()
	const within = 10 * time.Second
	end := time.After(within)
	for {
		select {
		case got := <-s.Wakeups():
			if got == name {
				return
			}
		case <-end:
			t.Fatalf("%v was not woken within %v", name, within)
		}
	}
}

// awaitListeners returns once n stores that open has opened for the test are subscribed to each other's news.
func awaitListeners(t *testing.T, n int64) {
	t.Helper()
	channel := strings.ReplaceAll(t.Name(), "/", ".") + ":wake"
	redistest.Eventually(t, 10*time.Second, "all listen", func() bool {
		subs, err := server.Client(t).PubSubNumSub(t.Context(), channel).Result()
		return err == nil && subs[channel] == n
	})
}

func TestOtherGatewaysAreWoken(t *testing.T) {
	a, b := open(t), open(t)
	name := relay.DestinationName{Source: "vocals", Destination: "one"}
	awaitListeners(t, 2)
	accept(t, a, newAccept("one"))
	awaitWake(t, b, name)

	// Should the message be lost, the look at the source says it again.
	for len(b.Wakeups()) > 0 {
		<-b.Wakeups()
	}
	b.Refresh()
	awaitWake(t, b, name)
}

func TestNodes(t *testing.T) {
	a := open(t, func(o *redisstore.Options) { o.Node = "a" })
	a.Announce("one config")
	b := open(t, func(o *redisstore.Options) { o.Node = "b" })
	b.Announce("another")
	redistest.Eventually(t, 5*time.Second, "b sees both and what they have", func() bool {
		nodes := b.Nodes()
		return len(nodes) == 2 && nodes[0].Name == "a" && nodes[0].Config == "one config" && nodes[1].Config == "another"
	})
	a.Announce("yet another")
	redistest.Eventually(t, 5*time.Second, "b asks what a has now, and does not wait for a beat of its own", func() bool {
		nodes, err := b.LiveNodes(t.Context())
		return err == nil && len(nodes) == 2 && nodes[0].Config == "yet another" && nodes[1].Config == "another"
	})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if nodes, err := a.LiveNodes(t.Context()); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("a closed store lists %v, error %v", nodes, err)
	}
	b.Announce("a third")
	redistest.Eventually(t, 5*time.Second, "b sees that a has left", func() bool { return len(b.Nodes()) == 1 })
}

// Two gateways that get the same callback at the same moment make one event of it, and lease each delivery once.
func TestTwoAtOnce(t *testing.T) {
	stores := []*redisstore.Store{open(t), open(t)}
	for range 50 {
		first := newAccept("one")
		pair := []*relay.Accept{first, again(first)}
		var wg sync.WaitGroup
		for i, s := range stores {
			wg.Go(func() { s.Apply(t.Context(), &relay.Batch{Accepts: pair[i : i+1]}) })
		}
		wg.Wait()
		if pair[0].Err != nil || pair[1].Err != nil || pair[0].FirstID != pair[1].FirstID || pair[0].Result == pair[1].Result {
			t.Fatalf("a pair became %v %s and %v %s", pair[0].Result, pair[0].FirstID, pair[1].Result, pair[1].FirstID)
		}
	}
	var mu sync.Mutex
	holders := map[string]int{}
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for {
				l := &relay.Lease{Source: "vocals", Destination: "one", Max: 3, For: time.Minute}
				s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
				if len(l.Leased) == 0 {
					return
				}
				mu.Lock()
				for _, d := range l.Leased {
					holders[d.Event.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range holders {
		if n != 1 {
			t.Errorf("event %s was leased %d times", id, n)
		}
	}
	if len(holders) != 50 {
		t.Errorf("%d of 50 were leased", len(holders))
	}
}

// A delivery whose event Redis has lost is given up, and seen.
func TestPayloadMissing(t *testing.T) {
	s := open(t)
	lost, kept := newAccept("one"), newAccept("one")
	accept(t, s, lost, kept)
	if n, err := server.Client(t).Del(t.Context(), t.Name()+":{vocals}:v:"+lost.Event.ID).Result(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	l := lease(t, open(t), "one", 5) // by another gateway: the first one still knows both
	if len(l.Leased) != 1 || l.Leased[0].Event.ID != kept.Event.ID {
		t.Fatalf("lease gave %+v", l.Leased)
	}
	letters, _, err := s.DeadLetters(t.Context(), relay.Selection{}, 10, "")
	if err != nil || len(letters) != 1 || letters[0].EventID != lost.Event.ID || letters[0].LastError != "payload_missing" {
		t.Errorf("dead letters are %+v, %v", letters, err)
	}
	if r, err := s.Purge(t.Context(), relay.PurgePolicy{DefaultWindow: time.Hour}); err != nil || len(r.DeadLetters) != 1 {
		t.Errorf("purge gave %+v, %v", r, err)
	}
}

// An idle gateway costs a script per source and 5 s.
func TestIdleCost(t *testing.T) {
	idle := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{idle.Addr} })
	s.Quiet()
	accept(t, s, newAccept("one"))
	settled := lease(t, s, "one", 1)
	if err := settle(t, s, settled.Leased[0], relay.OutcomeDelivered); err != nil {
		t.Fatal(err)
	}
	s.Refresh()
	idle.Do(t, "CONFIG", "RESETSTAT")
	s.Refresh() // what happens every 5 s
	stats, _ := idle.Do(t, "INFO", "commandstats").(string)
	for _, want := range []string{"cmdstat_evalsha:calls=1,", "cmdstat_smembers:calls=1,"} {
		if !strings.Contains(stats, want) {
			t.Errorf("a look is not %s\n%s", want, stats)
		}
	}
}

// A clock of Redis that is set forward or back by a year purges nothing and forgets nothing.
func TestASteppedClock(t *testing.T) {
	s := open(t)
	a := newAccept("one")
	accept(t, s, a)
	if err := settle(t, s, lease(t, s, "one", 1).Leased[0], relay.OutcomeDelivered); err != nil {
		t.Fatal(err)
	}
	year := (365 * 24 * time.Hour).Microseconds()
	for _, step := range []int64{-year, 2 * year, -year} {
		// To the source, a clock that was set forward is one that it read long ago.
		if err := server.Client(t).HIncrBy(t.Context(), t.Name()+":{vocals}:head", "wall", step).Err(); err != nil {
			t.Fatal(err)
		}
		r, err := s.Purge(t.Context(), relay.PurgePolicy{Retention: time.Hour, DeadLetterRetention: time.Hour, DefaultWindow: time.Hour})
		if err != nil || r.Events != 0 {
			t.Errorf("purge gave %+v, %v", r, err)
		}
		b := again(a)
		if accept(t, s, b); b.Result != relay.Duplicate {
			t.Errorf("a known key gave %v", b.Result)
		}
	}
	if _, err := s.Event(t.Context(), a.Event.ID); err != nil {
		t.Error(err)
	}
}
