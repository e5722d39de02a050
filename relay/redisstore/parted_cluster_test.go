package redisstore_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// A source of one Cluster that is parted spreads over its masters. Nothing is lost and the order of each task is kept while
// slots move, a master is killed, and a fourth one takes its share.
func TestAPartedSourceOnACluster(t *testing.T) {
	t.Parallel()
	// What a process has written outlives it; nothing here outlives its machine.
	args := []string{"--appendfsync", "no", "--cluster-require-full-coverage", "no"}
	masters := redistest.Cluster(t, args...)
	at := func(o *redisstore.Options) {
		o.Addresses, o.Cluster, o.Partitions = []string{masters[0].Addr, masters[1].Addr, masters[2].Addr}, true, 16
	}
	l := startTraffic(t, open(t, at), open(t, at))
	l.goesOn(t, "before anything happens", 300)
	if most := busiest(t, masters); most > 0.45 {
		t.Errorf("the busiest of three masters has %.2f of the scripts", most)
	}
	for i, key := range l.in.MetaKeys("vocals")[:2] {
		slot, owner := redistest.SlotOf(t, masters, key)
		redistest.MoveSlot(t, masters, slot, owner, (owner+1)%3)
		l.goesOn(t, fmt.Sprint("while slots move, ", i), 50)
	}
	masters[1].Kill()
	l.goesOn(t, "without one master", 50)
	masters[1].Restart(t)
	redistest.Eventually(t, 20*time.Second, "it has read its data", func() bool { return masters[1].Client(t).Ping(t.Context()).Err() == nil })
	l.goesOn(t, "when it is back", 100)
	added := redistest.ClusterMaster(t, masters, args...)
	redistest.Reshard(t, masters, added)
	masters = append(masters, added)
	for _, m := range masters {
		m.Do(t, "CONFIG", "RESETSTAT")
	}
	l.goesOn(t, "with four masters", 300)
	if most := busiest(t, masters); most > 0.5 || scripts(t, added) == 0 {
		t.Errorf("of four masters the busiest has %.2f of the scripts, and the new one %d scripts", most, scripts(t, added))
	}
	l.end(t)
}

// busiest returns the share of the scripts that the busiest of some masters has run.
func busiest(t *testing.T, masters []*redistest.Server) float64 {
	t.Helper()
	most, all := 0, 0
	var each []int
	for _, m := range masters {
		n := scripts(t, m)
		most, all, each = max(most, n), all+n, append(each, n)
	}
	t.Logf("scripts of each master: %v, of the busiest %.3f", each, float64(most)/float64(all))
	return float64(most) / float64(all)
}

// traffic accepts events of several tasks in their order by one gateway, and delivers them by another.
type traffic struct {
	in, out            *redisstore.Store
	accepted, received atomic.Int64
	stop               chan struct{}
	loops              sync.WaitGroup

	mu     sync.Mutex
	want   map[string]int // the latest of each task that was accepted
	got    map[string]int // the latest of each task that was received
	faults []string
}

const trafficTasks = 40

func startTraffic(t *testing.T, in, out *redisstore.Store) *traffic {
	l := &traffic{in: in, out: out, stop: make(chan struct{}), want: map[string]int{}, got: map[string]int{}}
	t.Cleanup(l.halt)
	for worker := range 2 {
		l.loops.Go(func() { l.accept(t, worker) })
	}
	l.loops.Go(func() { l.deliver(t) })
	return l
}

func (l *traffic) halt() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.loops.Wait()
}

// accept accepts an event of each of the worker's tasks at a time, and each until it is stored.
func (l *traffic) accept(t *testing.T, worker int) {
	var batch []*relay.Accept
	next := func(task string) *relay.Accept {
		a := newAccept("one")
		l.mu.Lock()
		defer l.mu.Unlock()
		a.Event.TaskID, a.Event.Stage, a.Deliveries[0].Ordered = task, strconv.Itoa(l.want[task]+1), true
		return a
	}
	for i := range trafficTasks / 2 {
		batch = append(batch, next(fmt.Sprintf("task-%d-%d", worker, i)))
	}
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-pace.C:
		}
		l.in.Apply(t.Context(), &relay.Batch{Accepts: batch})
		for i, a := range batch {
			if a.Err != nil {
				continue // as the spool does
			}
			l.mu.Lock()
			l.want[a.Event.TaskID]++
			l.mu.Unlock()
			l.accepted.Add(1)
			batch[i] = next(a.Event.TaskID)
		}
	}
}

// deliver leases what is due, notes what comes first of each task, and settles it.
func (l *traffic) deliver(t *testing.T) {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		op := &relay.Lease{Source: "vocals", Destination: "one", Max: 100, For: 3 * time.Second}
		l.out.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{op}})
		var settles []*relay.Settle
		for _, d := range op.Leased {
			l.note(d.Event)
			settles = append(settles, &relay.Settle{Leased: d, Outcome: relay.OutcomeDelivered, Used: true})
		}
		l.out.Apply(t.Context(), &relay.Batch{Settles: settles})
	}
}

func (l *traffic) note(e *relay.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := strconv.Atoi(e.Stage)
	switch latest := l.got[e.TaskID]; {
	case err != nil:
		l.faults = append(l.faults, err.Error())
	case n == latest+1:
		l.got[e.TaskID] = n
		l.received.Add(1)
	case n != latest: // else its settle was not known to be done
		l.faults = append(l.faults, fmt.Sprintf("of %s number %d came after %d", e.TaskID, n, latest))
	}
}

// goesOn waits until so many more events were accepted and delivered.
func (l *traffic) goesOn(t *testing.T, what string, n int64) {
	t.Helper()
	begun, accepted, received := time.Now(), l.accepted.Load()+n, l.received.Load()+n
	redistest.Eventually(t, time.Minute, what, func() bool { return l.accepted.Load() >= accepted && l.received.Load() >= received })
	t.Logf("%s: %d events in %v", what, n, time.Since(begun).Round(time.Millisecond))
}

// end lets what was accepted be delivered, and checks that it was.
func (l *traffic) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.loops.Wait()
	l.stop = make(chan struct{})
	l.loops.Go(func() { l.deliver(t) })
	redistest.Eventually(t, time.Minute, "all are delivered", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for task, n := range l.want {
			if l.got[task] < n {
				return false
			}
		}
		return true
	})
	l.halt()
	t.Logf("%d events were accepted, and %d delivered", l.accepted.Load(), l.received.Load())
	for _, fault := range l.faults {
		t.Error(fault)
	}
}
