package engine_test

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// A master that dies takes nothing with it that a replica had to have: Sentinel makes the replica the master, and what
// came meanwhile went to the spool. Since nothing is durable on the one that is left, it gets a replica again.
func TestFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Replica(t, master)
	sentinel := redistest.Sentinel(t, master)
	redistest.Eventually(t, 15*time.Second, "Sentinel knows the replica", func() bool {
		list, _ := sentinel.Do(t, "SENTINEL", "REPLICAS", redistest.MasterName).([]any)
		return len(list) == 1
	})
	c := newConsumer(t, nil)
	g := newSharedGateway(t, redisstore.Options{
		Addresses: []string{sentinel.Addr}, MasterName: redistest.MasterName, Durability: redisstore.DurabilityReplica,
	}, newShortSource(t, c))
	l := newLoad(t, g)
	l.during(100)
	master.Kill()
	redistest.Eventually(t, 15*time.Second, "the replica is the master", func() bool {
		role, _ := replica.Do(t, "ROLE").([]any)
		return len(role) > 0 && role[0] == "master"
	})
	l.during(100)
	redistest.Replica(t, replica)
	l.during(100)
	l.end(c, g)
}

// While the slot of a source moves about in a Cluster, its callbacks are answered and delivered all the same.
func TestSlotsMoveUnderLoad(t *testing.T) {
	t.Parallel()
	for _, durability := range []redisstore.Durability{redisstore.DurabilityMemory, redisstore.DurabilityReplica} {
		t.Run(string(durability), func(t *testing.T) {
			t.Parallel()
			masters := redistest.Cluster(t)
			if durability == redisstore.DurabilityReplica {
				for _, m := range masters {
					redistest.ClusterReplica(t, m, masters...)
				}
			}
			c := newConsumer(t, nil)
			o := redisstore.Options{Addresses: []string{masters[0].Addr}, Cluster: true, Durability: durability}
			a, b := newSharedGateway(t, o, newShortSource(t, c)), newSharedGateway(t, o, newShortSource(t, c))
			l := newLoad(t, a, b)
			l.during(50)
			slot, owner := redistest.SlotOf(t, masters, "relay:{vocals}:head")
			for i := range 4 {
				redistest.MoveSlot(t, masters, slot, (owner+i)%3, (owner+i+1)%3)
				l.during(50)
			}
			l.end(c, a, b)
		})
	}
}
