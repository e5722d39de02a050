package redistest

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// bounds are the first slots of the masters, and the one past the last.
var bounds = [...]int{0, 5461, 10923, 16384}

// clusterArgs returns the arguments of a node of a Cluster. On a busy machine a node may say nothing for seconds, and is not
// to pass for dead.
func clusterArgs(more []string) []string {
	return append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "15000"}, more...)
}

// Cluster starts a Cluster of three masters, and ends it with the test.
func Cluster(t testing.TB, args ...string) []*Server {
	t.Helper()
	var masters []*Server
	for range 3 {
		masters = append(masters, Start(t, clusterArgs(args)...))
	}
	for i, m := range masters {
		m.Do(t, "CLUSTER", "ADDSLOTSRANGE", bounds[i], bounds[i+1]-1)
		m.Do(t, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for _, m := range masters[1:] {
		host, port, err := net.SplitHostPort(m.Addr)
		if err != nil {
			t.Fatal(err)
		}
		masters[0].Do(t, "CLUSTER", "MEET", host, port)
	}
	for _, m := range masters {
		Eventually(t, 20*time.Second, "the Cluster is ready", func() bool {
			info := fmt.Sprint(m.Do(t, "CLUSTER", "INFO"))
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return masters
}

// ClusterMaster adds a master without slots to a Cluster, which all of its nodes know when this returns.
func ClusterMaster(t testing.TB, masters []*Server, args ...string) *Server {
	t.Helper()
	added := Start(t, clusterArgs(args)...)
	host, port, err := net.SplitHostPort(masters[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	added.Do(t, "CLUSTER", "MEET", host, port)
	own := fmt.Sprint(added.Do(t, "CLUSTER", "MYID"))
	for _, m := range masters {
		Eventually(t, 20*time.Second, "the masters know each other", func() bool {
			return nodeOf(t, m, own)["link"] == "connected" && nodeOf(t, added, fmt.Sprint(m.Do(t, "CLUSTER", "MYID")))["link"] == "connected"
		})
	}
	return added
}

// Reshard moves the last slots of each master of a Cluster, with their keys, to a new one, so that all have as many. A master
// that was started a moment ago takes its time to join.
func Reshard(t testing.TB, masters []*Server, added *Server) {
	t.Helper()
	all := append(slices.Clone(masters), added)
	for _, m := range all {
		Eventually(t, 20*time.Second, "the Cluster is ready", func() bool {
			return strings.Contains(fmt.Sprint(m.Do(t, "CLUSTER", "INFO")), "cluster_state:ok")
		})
	}
	id := fmt.Sprint(added.Do(t, "CLUSTER", "MYID"))
	for i, m := range masters {
		pipe := m.Client(t).Pipeline()
		counts := map[int]*redis.Cmd{}
		for slot := bounds[i+1] - (bounds[i+1]-bounds[i])/len(all); slot < bounds[i+1]; slot++ {
			counts[slot] = pipe.Do(t.Context(), "CLUSTER", "COUNTKEYSINSLOT", slot)
		}
		run(t, pipe)
		here, there := m.Client(t).Pipeline(), added.Client(t).Pipeline()
		for slot, count := range counts {
			if n, _ := count.Int(); n > 0 {
				MoveSlot(t, all, slot, i, len(masters))
				continue
			}
			there.Do(t.Context(), "CLUSTER", "SETSLOT", slot, "NODE", id)
			here.Do(t.Context(), "CLUSTER", "SETSLOT", slot, "NODE", id)
		}
		run(t, there)
		run(t, here)
	}
}

func run(t testing.TB, pipe redis.Pipeliner) {
	t.Helper()
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ClusterReplica adds a replica to a master of a Cluster. When this returns it is in step, and its master and the others
// know it: those that do not would not vote for it once its master is gone.
func ClusterReplica(t testing.TB, master *Server, others ...*Server) *Server {
	t.Helper()
	masters := append([]*Server{master}, others...)
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	replica := Start(t, clusterArgs(nil)...)
	replica.Do(t, "CLUSTER", "MEET", host, port)
	id, own := fmt.Sprint(master.Do(t, "CLUSTER", "MYID")), fmt.Sprint(replica.Do(t, "CLUSTER", "MYID"))
	for _, m := range masters {
		Eventually(t, 20*time.Second, "the replica knows the masters", func() bool {
			return nodeOf(t, replica, fmt.Sprint(m.Do(t, "CLUSTER", "MYID")))["link"] == "connected"
		})
	}
	replica.Do(t, "CLUSTER", "REPLICATE", id)
	Eventually(t, 10*time.Second, "the replica is in step", func() bool {
		role, _ := replica.Do(t, "ROLE").([]any)
		return len(role) > 3 && role[3] == "connected"
	})
	for _, m := range masters {
		Eventually(t, 20*time.Second, "the masters know the replica", func() bool {
			node := nodeOf(t, m, own)
			return node["master"] == id && node["link"] == "connected"
		})
	}
	return replica
}

// nodeOf is how a node of a Cluster sees the one with this id: its master, its epoch, and the state of the link to it.
func nodeOf(t testing.TB, asked *Server, id string) map[string]string {
	t.Helper()
	for line := range strings.Lines(fmt.Sprint(asked.Do(t, "CLUSTER", "NODES"))) {
		if f := strings.Fields(line); len(f) > 7 && f[0] == id {
			return map[string]string{"master": f[3], "epoch": f[6], "link": f[7]}
		}
	}
	return nil
}

// SlotOf returns the slot of a key in a Cluster that Cluster has started, and which of the masters has it.
func SlotOf(t testing.TB, masters []*Server, key string) (slot, owner int) {
	t.Helper()
	n, _ := masters[0].Do(t, "CLUSTER", "KEYSLOT", key).(int64)
	slot = int(n)
	for owner < len(bounds)-2 && slot >= bounds[owner+1] {
		owner++
	}
	return slot, owner
}

// MoveSlot moves a slot with its keys from one master of a Cluster to another, a few at a time. It returns when every
// master knows: who takes a slot without knowing the latest epoch loses it again, with its keys.
func MoveSlot(t testing.TB, masters []*Server, slot, source, target int) {
	t.Helper()
	from, to := masters[source], masters[target]
	fromID, toID := fmt.Sprint(from.Do(t, "CLUSTER", "MYID")), fmt.Sprint(to.Do(t, "CLUSTER", "MYID"))
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		t.Fatal(err)
	}
	to.Do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for {
		keys, _ := from.Do(t, "CLUSTER", "GETKEYSINSLOT", slot, 10).([]any)
		if len(keys) == 0 {
			break
		}
		from.Do(t, append([]any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}, keys...)...)
	}
	to.Do(t, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.Do(t, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	Eventually(t, 10*time.Second, "every master knows who has the slot", func() bool {
		epochs := map[string]bool{}
		for _, m := range masters {
			epochs[nodeOf(t, m, toID)["epoch"]] = true
		}
		return len(epochs) == 1
	})
}
