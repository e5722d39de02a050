package redisstore_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// While slots move to and fro, what was accepted stays, and what was refused can be accepted again.
func TestClusterWhoseSlotsMove(t *testing.T) {
	t.Parallel()
	masters := redistest.Cluster(t)
	s := open(t, func(o *redisstore.Options) {
		o.Addresses = []string{masters[0].Addr, masters[1].Addr}
		o.KeyPrefix, o.Partitions = "relay", 1
	})
	slot, owner := redistest.SlotOf(t, masters, "relay:{vocals}:head")
	var count atomic.Int64
	done := make(chan struct{})
	accepted := make(chan []*relay.Accept)
	go func() {
		var all []*relay.Accept
		for {
			select {
			case <-done:
				accepted <- all
				return
			default:
			}
			a := newAccept("one", "two")
			other := newAccept("one")
			other.Event.Source = "other"
			for range 1000 { // as the spool does
				s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a, other}})
				if a.Err == nil && other.Err == nil {
					break
				}
				if err := errors.Join(a.Err, other.Err); !errors.Is(err, relay.ErrUnavailable) {
					t.Error(err)
				}
			}
			all = append(all, a)
			count.Add(1)
		}
	}()
	for i := range 4 {
		settled := count.Load() + 100
		redistest.Eventually(t, 10*time.Second, "events are accepted where the slot is now", func() bool { return count.Load() >= settled })
		redistest.MoveSlot(t, masters, slot, (owner+i)%3, (owner+i+1)%3)
	}
	close(done)
	all := <-accepted
	t.Logf("%d events while the slot moved", len(all))
	seen := map[string]bool{}
	redistest.Eventually(t, time.Minute, "all are leased", func() bool {
		for _, d := range []string{"one", "two"} {
			l := &relay.Lease{Source: "vocals", Destination: d, Max: 500, For: 2 * time.Second} // a lease whose answer came too late is made again
			s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
			for _, got := range l.Leased {
				seen[got.Event.ID+d] = true
			}
		}
		return len(seen) == 2*len(all)
	})
	for _, a := range all {
		if !seen[a.Event.ID+"one"] || !seen[a.Event.ID+"two"] {
			t.Errorf("event %s is lost", a.Event.ID)
		}
	}
	if _, _, err := s.Events(t.Context(), relay.EventFilter{Limit: 10}); err != nil {
		t.Error(err)
	}
	if _, err := s.Event(t.Context(), all[0].Event.ID); err != nil {
		t.Error(err)
	}
	// The last move may not have reached every master yet.
	redistest.Eventually(t, 30*time.Second, "the store is well", func() bool { return s.Health(t.Context()) == nil })
	if _, err := s.Purge(t.Context(), relay.PurgePolicy{DefaultWindow: time.Hour, Retention: time.Hour, DeadLetterRetention: time.Hour}); err != nil {
		t.Error(err)
	}
}

// A new source that a full Redis does not register keeps nothing from being read or purged.
func TestAFullRedisIsPurged(t *testing.T) {
	full := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{full.Addr} })
	a := packed(t, s, "one")
	delivered(t, s, a.Leased...)
	full.Do(t, "CONFIG", "SET", "maxmemory", "1mb")
	b := newAccept("one")
	b.Event.Source = "covers"
	if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{b}}); !errors.Is(b.Err, relay.ErrUnavailable) {
		t.Fatalf("accept at maxmemory gave %v", b.Err)
	}
	if events, _, err := s.Events(t.Context(), relay.EventFilter{}); len(events) != 1 || err != nil {
		t.Errorf("listed %d events, %v", len(events), err)
	}
	if _, err := s.Event(t.Context(), a.Event.ID); err != nil {
		t.Error(err)
	}
	if r, err := s.Purge(t.Context(), relay.PurgePolicy{}); r.Events != 1 || err != nil {
		t.Errorf("purge gave %+v, %v", r, err)
	}
	s.Refresh()
	if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("health is %v", err)
	}
	full.Do(t, "CONFIG", "SET", "maxmemory", "0")
	s.Refresh()
	if names := full.Do(t, "SMEMBERS", t.Name()+":sources"); len(names.([]any)) != 2 {
		t.Errorf("with room again the registry has %v", names)
	}
}

// At maxmemory nothing new is accepted, but the queue drains.
func TestAtMaxmemory(t *testing.T) {
	full := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{full.Addr} })
	var accepts []*relay.Accept
	for range 5 {
		accepts = append(accepts, newAccept("one"))
	}
	accept(t, s, accepts...)
	full.Do(t, "CONFIG", "SET", "maxmemory", "1mb")
	a := newAccept("one")
	if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}}); !errors.Is(a.Err, relay.ErrUnavailable) {
		t.Errorf("accept at maxmemory gave %v", a.Err)
	}
	if err := s.Health(t.Context()); err == nil {
		t.Error("a full Redis is well")
	}
	l := lease(t, s, "one", 3)
	if len(l.Leased) != 3 {
		t.Fatalf("lease at maxmemory gave %d", len(l.Leased))
	}
	for i, outcome := range []relay.Outcome{relay.OutcomeDelivered, relay.OutcomeDead, relay.OutcomeRetry} {
		if err := settle(t, s, l.Leased[i], outcome); err != nil {
			t.Errorf("settle at maxmemory: %v", err)
		}
	}
	if n, _, err := s.Discard(t.Context(), relay.Selection{Source: "vocals", Destination: "one"}, ""); n != 1 || err != nil {
		t.Errorf("discard at maxmemory gave %d, %v", n, err)
	}
	if err := s.Pause(t.Context(), "vocals", "one", true); err != nil {
		t.Errorf("pause at maxmemory: %v", err)
	}
	if r, err := s.Purge(t.Context(), relay.PurgePolicy{}); r.Events != 2 || err != nil {
		t.Errorf("purge at maxmemory gave %+v, %v", r, err)
	}
	full.Do(t, "CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "allkeys-lru")
	if err := s.Health(t.Context()); err == nil || errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("a policy that evicts is %v", err)
	}
}

// Redis without its scripts, its keys, or itself: the store goes on by itself.
func TestRestarts(t *testing.T) {
	redis := redistest.Start(t, "--appendfsync", "always")
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
	accept(t, s, newAccept("one"))
	redis.Do(t, "SCRIPT", "FLUSH")
	accept(t, s, newAccept("one"))
	redis.Kill()
	a := newAccept("one")
	if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}}); !errors.Is(a.Err, relay.ErrUnavailable) {
		t.Errorf("without Redis accept gave %v", a.Err)
	}
	redis.Restart(t)
	redistest.Eventually(t, 10*time.Second, "it accepts again", func() bool {
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
		return a.Err == nil
	})
	if l := lease(t, s, "one", 10); len(l.Leased) != 3 {
		t.Errorf("%d of 3 deliveries are left", len(l.Leased))
	}
	redis.Do(t, "FLUSHALL") // of this test's own server
	accept(t, s, newAccept("one"))
	if l := lease(t, s, "one", 10); len(l.Leased) != 1 {
		t.Errorf("%d deliveries after the data was lost", len(l.Leased))
	}
	s.Refresh()
	if events, _, err := s.Events(t.Context(), relay.EventFilter{}); len(events) != 1 || err != nil {
		t.Errorf("events are %v, %v", events, err)
	}
}

// Nothing waits longer than the timeout, whatever Redis does.
func TestAHangingRedis(t *testing.T) {
	redis := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses, o.Timeout = []string{redis.Addr}, 300*time.Millisecond })
	accept(t, s, newAccept("one"))
	redis.Suspend(t)
	if err := s.Health(t.Context()); !errors.Is(err, relay.ErrUnavailable) || strings.Contains(err.Error(), "->") {
		t.Errorf("it is %v, which is another reason at each look if it names the gateway's port", err)
	}
	a := newAccept("one")
	start := time.Now()
	s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
	if took := time.Since(start); !errors.Is(a.Err, relay.ErrUnavailable) || took > time.Second {
		t.Errorf("after %v accept gave %v", took, a.Err)
	}
	redis.Resume(t)
	redistest.Eventually(t, 10*time.Second, "it accepts again", func() bool {
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
		return a.Err == nil
	})
	if events, _, err := s.Events(t.Context(), relay.EventFilter{}); len(events) != 2 || a.Result != relay.Accepted || err != nil {
		t.Errorf("an accept in doubt ended as %v in %d events, %v", a.Result, len(events), err)
	}
}

func TestDurabilityReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) {
		o.Addresses, o.Durability, o.Timeout = []string{master.Addr}, redisstore.DurabilityReplica, time.Second
	})
	a := newAccept("one")
	if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}}); !errors.Is(a.Err, relay.ErrUnavailable) {
		t.Fatalf("without a replica accept gave %v", a.Err)
	}
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	redistest.Eventually(t, 20*time.Second, "the replica has it", func() bool {
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
		return a.Err == nil
	})
	if a.Result != relay.Accepted {
		t.Errorf("the shortfall ended as %v", a.Result)
	}
	replica.Suspend(t)
	b := again(a)
	if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{b}}); !errors.Is(b.Err, relay.ErrUnavailable) {
		t.Errorf("a duplicate passed without the replica: %v", b.Err)
	}
}

// In a Cluster each master is asked for its own replicas: a batch for two of them counts where the replica has it.
func TestDurabilityReplicaOnACluster(t *testing.T) {
	t.Parallel()
	masters := redistest.Cluster(t)
	s := open(t, func(o *redisstore.Options) {
		o.Addresses, o.Cluster, o.Durability = []string{masters[0].Addr}, true, redisstore.DurabilityReplica
		o.KeyPrefix, o.Timeout, o.Partitions = "relay", time.Second, 1
	})
	// One source for each of two masters.
	of := map[int]string{}
	for n := 0; len(of) < 3; n++ {
		name := fmt.Sprint("source-", n)
		_, owner := redistest.SlotOf(t, masters, "relay:{"+name+"}:head")
		of[owner] = name
	}
	here, there := newAccept("one"), newAccept("one")
	here.Event.Source, there.Event.Source = of[0], of[1]
	apply := func() { s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{here, there}}) }
	if apply(); !errors.Is(here.Err, relay.ErrUnavailable) || !errors.Is(there.Err, relay.ErrUnavailable) {
		t.Fatalf("without replicas accepts gave %v and %v", here.Err, there.Err)
	}
	replica := redistest.ClusterReplica(t, masters[0], masters[1:]...)
	redistest.Eventually(t, 10*time.Second, "the master with a replica takes its own", func() bool { apply(); return here.Err == nil })
	if here.Result != relay.Accepted || !errors.Is(there.Err, relay.ErrUnavailable) {
		t.Errorf("with one replica accepts gave %v and %v", here.Result, there.Err)
	}
	// The replica takes over: it has what was answered, and waits for a replica of its own.
	for _, node := range append(masters, replica) {
		node.Do(t, "CONFIG", "SET", "cluster-node-timeout", 2000)
	}
	masters[0].Kill()
	redistest.Eventually(t, 30*time.Second, "the replica has taken over", func() bool {
		role, _ := replica.Do(t, "ROLE").([]any)
		return len(role) > 0 && role[0] == "master"
	})
	redistest.ClusterReplica(t, replica)
	l := &relay.Lease{Source: of[0], Destination: "one", Max: 5, For: time.Minute}
	redistest.Eventually(t, 10*time.Second, "its delivery is leased", func() bool {
		s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
		return l.Err == nil && len(l.Leased) == 1
	})
	if l.Leased[0].Event.ID != here.Event.ID {
		t.Errorf("leased was %+v", l.Leased[0].Event)
	}
}

// A Sentinel that hangs keeps nobody from the master, so long as another answers.
func TestAHangingSentinel(t *testing.T) {
	master := redistest.Start(t)
	sentinels := []*redistest.Server{redistest.Sentinel(t, master), redistest.Sentinel(t, master)}
	s := open(t, func(o *redisstore.Options) {
		o.Addresses, o.MasterName = []string{sentinels[0].Addr, sentinels[1].Addr}, redistest.MasterName
	})
	for _, sentinel := range sentinels {
		accept(t, s, newAccept("one"))
		sentinel.Suspend(t)
		master.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		start := time.Now()
		redistest.Eventually(t, 20*time.Second, "it accepts again", func() bool {
			a := newAccept("one")
			s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
			return a.Err == nil
		})
		if took := time.Since(start); took > 2*redisstore.DefaultTimeout {
			t.Errorf("it took %v to find the master by the other Sentinel", took)
		}
		sentinel.Resume(t)
	}
}

// A Sentinel that go-redis knows from another one alone, by an address of its own, is waited for no longer than those that
// are configured.
func TestAHangingSentinelThatWasDiscovered(t *testing.T) {
	const timeout = 4 * time.Second
	master := redistest.Start(t)
	configured, discovered := redistest.Sentinel(t, master), redistest.Sentinel(t, master)
	redistest.Eventually(t, 20*time.Second, "the Sentinels know each other", func() bool {
		others, _ := configured.Do(t, "SENTINEL", "SENTINELS", redistest.MasterName).([]any)
		return len(others) == 1
	})
	_, port, err := net.SplitHostPort(configured.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, func(o *redisstore.Options) {
		o.Addresses, o.MasterName, o.Timeout = []string{net.JoinHostPort("localhost", port)}, redistest.MasterName, timeout
	})
	accept(t, s, newAccept("one"))
	for _, hanging := range []*redistest.Server{discovered, configured} {
		hanging.Suspend(t)
		// Its own clients are gone too: what is left is to ask all.
		other := configured
		if hanging == configured {
			other = discovered
		}
		other.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		other.Do(t, "CLIENT", "KILL", "TYPE", "pubsub")
		master.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		start := time.Now()
		redistest.Eventually(t, 20*time.Second, "it accepts again", func() bool {
			a := newAccept("one")
			s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
			return a.Err == nil
		})
		if took := time.Since(start); took >= timeout {
			t.Errorf("it took %v to find the master by the other Sentinel", took)
		}
		hanging.Resume(t)
	}
}

// What alone is too large for Redis is refused for that, and costs the others nothing.
func TestATooLargeAccept(t *testing.T) {
	redis := redistest.Start(t, "--proto-max-bulk-len", "1mb")
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
	large := newAccept("one")
	large.Event.Body = make([]byte, 2<<20)
	// Redis closes the connection, which may be known before its answer is.
	redistest.Eventually(t, 20*time.Second, "it is refused for what it is", func() bool {
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{large}})
		return large.Err != nil && !errors.Is(large.Err, relay.ErrUnavailable)
	})
	redistest.Eventually(t, 20*time.Second, "another is accepted", func() bool {
		a := newAccept("one")
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
		return a.Err == nil
	})
}
