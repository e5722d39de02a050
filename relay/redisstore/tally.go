package redisstore

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// tally counts what the store believes to be in Redis: as of the last look, and what this process has done since.
type tally struct {
	mu     sync.Mutex
	counts map[string]map[tallied]*tallyCount // by source
}

// tallyCount is a count. Its OldestPending goes on growing, since it was that old at a time.
type tallyCount struct {
	relay.Count
	at time.Time
}

// tallied names what is counted by itself: a destination's deliveries in one partition.
type tallied struct {
	partition   int
	destination string
}

// list returns the counts of all partitions together.
func (t *tally) list() []relay.Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	sums := map[relay.DestinationName]*relay.Count{}
	for _, counts := range t.counts {
		for _, c := range counts {
			name := relay.DestinationName{Source: c.Source, Destination: c.Destination}
			sum := sums[name]
			if sum == nil {
				sum = &relay.Count{Source: c.Source, Destination: c.Destination}
				sums[name] = sum
			}
			// Other gateways' work is missing from what was done since the last look.
			pending, inFlight := max(0, c.Pending), max(0, c.InFlight)
			sum.Pending, sum.InFlight = sum.Pending+pending, sum.InFlight+inFlight
			sum.Delivered, sum.Dead = sum.Delivered+max(0, c.Delivered), sum.Dead+max(0, c.Dead)
			sum.LeaseExpired, sum.Paused = sum.LeaseExpired+c.LeaseExpired, sum.Paused || c.Paused
			if pending+inFlight > 0 && c.OldestPending > 0 {
				sum.OldestPending = max(sum.OldestPending, c.OldestPending+time.Since(c.at))
			}
		}
	}
	list := make([]relay.Count, 0, len(sums))
	for _, sum := range sums {
		list = append(list, *sum)
	}
	slices.SortFunc(list, func(a, b relay.Count) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination))
	})
	return list
}

// of returns the counts of a source. The caller holds the lock.
func (t *tally) of(source string) map[tallied]*tallyCount {
	if t.counts == nil {
		t.counts = map[string]map[tallied]*tallyCount{}
	}
	counts := t.counts[source]
	if counts == nil {
		counts = map[tallied]*tallyCount{}
		t.counts[source] = counts
	}
	return counts
}

// add changes the count of a destination in a partition.
func (t *tally) add(h *shard, destination string, change func(*relay.Count)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts, name := t.of(h.source), tallied{h.number, destination}
	c := counts[name]
	if c == nil {
		c = &tallyCount{Count: relay.Count{Source: h.source, Destination: destination}}
		counts[name] = c
	}
	change(&c.Count)
}

// set replaces all counts of a partition by those counted now. Its LeaseExpired are those that this look has ended.
func (t *tally) set(h *shard, counted []relay.Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := t.of(h.source)
	expired, now := map[string]int64{}, time.Now()
	for name, c := range counts {
		if name.partition == h.number {
			expired[name.destination] = c.LeaseExpired
			delete(counts, name)
		}
	}
	for _, c := range counted {
		c.LeaseExpired += expired[c.Destination]
		counts[tallied{h.number, c.Destination}] = &tallyCount{c, now}
	}
}

// destinations returns those of a source that are known.
func (t *tally) destinations(source string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := map[string]bool{}
	for name := range t.counts[source] {
		names[name.destination] = true
	}
	return slices.Sorted(maps.Keys(names))
}
