package redisstore

import (
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// horizon is when something of a destination becomes due in each partition, as far as this process knows. It decides where a
// lease looks first; another gateway may have made due what is not known here.
type horizon struct {
	mu sync.Mutex
	at map[relay.DestinationName][]time.Time // by number of the partition; zero where nothing is known
}

// never is when something becomes due where nothing waits.
const never = 365 * 24 * time.Hour

// set notes how long it is until something of a destination is due in a partition; negative if nothing waits there.
func (z *horizon) set(h *shard, destination string, next time.Duration) {
	if next < 0 {
		next = never
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	name := relay.DestinationName{Source: h.source, Destination: destination}
	if z.at == nil {
		z.at = map[relay.DestinationName][]time.Time{}
	}
	for len(z.at[name]) <= h.number {
		z.at[name] = append(z.at[name], time.Time{})
	}
	z.at[name][h.number] = time.Now().Add(next)
}

// soon notes that something of a destination is due in a partition after a delay, if nothing is before.
func (z *horizon) soon(h *shard, destination string, delay time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	known := z.at[relay.DestinationName{Source: h.source, Destination: destination}]
	if at := time.Now().Add(delay); h.number < len(known) && (known[h.number].IsZero() || at.Before(known[h.number])) {
		known[h.number] = at
	}
}

// forget forgets what is known of a destination, of which another gateway has said that something may be due.
func (z *horizon) forget(name relay.DestinationName) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.at, name)
}

// due reports in which of n partitions something is known to be due.
func (z *horizon) due(l *relay.Lease, n int) []bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	due := make([]bool, n)
	now := time.Now()
	for i, at := range z.at[relay.DestinationName{Source: l.Source, Destination: l.Destination}] {
		if i < n {
			due[i] = !at.IsZero() && !at.After(now)
		}
	}
	return due
}

// next returns how long it is until something is due in any of n partitions; zero if it is, or nothing is known of one, and
// negative if nothing waits.
func (z *horizon) next(l *relay.Lease, n int) time.Duration {
	z.mu.Lock()
	defer z.mu.Unlock()
	known := z.at[relay.DestinationName{Source: l.Source, Destination: l.Destination}]
	if len(known) < n {
		return 0
	}
	first := never
	for _, at := range known[:n] {
		if at.IsZero() {
			return 0
		}
		first = min(first, max(0, time.Until(at)))
	}
	if first > never/2 {
		return -1
	}
	return first
}
