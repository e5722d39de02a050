package redisstore

import (
	"cmp"
	"slices"
	"sync"

	"github.com/callbackrelay/caddy-relay/relay"
)

// tally counts what the store believes to be in Redis: as of the last look, and what this process has done since.
type tally struct {
	mu     sync.Mutex
	counts map[relay.DestinationName]*relay.Count
}

func (t *tally) list() []relay.Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]relay.Count, 0, len(t.counts))
	for _, c := range t.counts {
		// Other gateways' work is missing from what was done since the last look.
		count := *c
		count.Pending, count.InFlight = max(0, count.Pending), max(0, count.InFlight)
		count.Delivered, count.Dead = max(0, count.Delivered), max(0, count.Dead)
		if count.Pending+count.InFlight == 0 {
			count.OldestPending = 0
		}
		list = append(list, count)
	}
	slices.SortFunc(list, func(a, b relay.Count) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination))
	})
	return list
}

func (t *tally) add(name relay.DestinationName, change func(*relay.Count)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[relay.DestinationName]*relay.Count{}
	}
	c := t.counts[name]
	if c == nil {
		c = &relay.Count{Source: name.Source, Destination: name.Destination}
		t.counts[name] = c
	}
	change(c)
}

// set replaces all counts of a source by those counted now. Its LeaseExpired are those that this look has ended.
func (t *tally) set(source string, counted []relay.Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	expired := map[string]int64{}
	for name, c := range t.counts {
		if name.Source == source {
			expired[name.Destination] = c.LeaseExpired
			delete(t.counts, name)
		}
	}
	if t.counts == nil {
		t.counts = map[relay.DestinationName]*relay.Count{}
	}
	for _, c := range counted {
		c.LeaseExpired += expired[c.Destination]
		t.counts[relay.DestinationName{Source: source, Destination: c.Destination}] = &c
	}
}

// destinations are those of a source that are known.
func (t *tally) destinations(source string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for name := range t.counts {
		if name.Source == source {
			names = append(names, name.Destination)
		}
	}
	slices.Sort(names)
	return names
}
