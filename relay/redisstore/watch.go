package redisstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// watchEvery is how often each partition of a source is looked at: its clock moves on, its deliveries are counted, and lanes that have
// something due are woken, should no message have reached them. It is all that an idle gateway does.
const watchEvery = 5 * time.Second

func (s *Store) watchLoop() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing.Done():
			return
		case <-ticker.C:
			s.recent.forget()
			s.watch(s.closing)
		}
	}
}

// watch looks at all sources.
func (s *Store) watch(ctx context.Context) {
	_ = s.step(stepWatch, func() error {
		ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
		defer cancel()
		err := s.readPartitions(ctx, s.claimed.Load())
		if s.layout.Load() == nil || s.misfit.Load() != nil {
			return err
		}
		// Without the registry, what is known of it is looked at all the same: of a Cluster one master may be away.
		return join(err, s.mendRegistry(ctx), s.look(ctx, s.allShards(s.known())...))
	})
}

// readRegistry learns which sources there are, and returns those of this process that the registry lacks, because Redis has lost
// them or had no room for them.
func (s *Store) readRegistry(ctx context.Context) (lost []any, err error) {
	ctx, cancel := s.toRegistry(ctx)
	defer cancel()
	names, err := s.client.SMembers(ctx, s.keys.sources()).Result()
	if err != nil {
		return nil, explain(err)
	}
	registered := make(map[string]bool, len(names))
	for _, n := range names {
		registered[n] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = registered
	for n := range s.used {
		if !registered[n] {
			lost = append(lost, n)
		}
	}
	return lost, nil
}

// mendRegistry reads the registry, and adds what it lacks. That is for the looks at it alone: what reads or purges goes on where
// Redis has no room for more.
func (s *Store) mendRegistry(ctx context.Context) error {
	lost, err := s.readRegistry(ctx)
	if err != nil || lost == nil {
		return err
	}
	if err := s.readPartitions(ctx, true); err != nil { // lost with them, and what is there without it counts as one
		return err
	}
	ctx, cancel := s.toRegistry(ctx)
	defer cancel()
	return explain(s.client.SAdd(ctx, s.keys.sources(), lost...).Err())
}

// toRegistry bounds a look at the registry by a part of the time that is left: it may be on another master than what is to be
// done next.
func (s *Store) toRegistry(ctx context.Context) (context.Context, context.CancelFunc) {
	left := s.options.Timeout
	if by, ok := ctx.Deadline(); ok {
		left = time.Until(by)
	}
	return context.WithTimeout(ctx, left/4)
}

// known are all sources, those too that no config names any more.
func (s *Store) known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.sources)
	maps.Copy(all, s.used)
	return slices.Sorted(maps.Keys(all))
}

// look counts the deliveries of partitions, and wakes the lanes that have something due. It looks at all of them, even if
// some cannot be asked.
func (s *Store) look(ctx context.Context, shards ...*shard) (err error) {
	destinations := map[string][]string{} // by source
	asked := make([][]string, len(shards))
	for i, h := range shards {
		known, ok := destinations[h.source]
		if !ok {
			known = s.tally.destinations(h.source)
			destinations[h.source] = known
		}
		asked[i] = known
	}
	// A destination may be new to this process: then a second look includes it.
	for range 2 {
		if len(shards) == 0 {
			return err
		}
		calls := make([]*call, len(shards))
		for i, h := range shards {
			calls[i] = watchCall(h, asked[i])
		}
		s.run(ctx, calls...)
		var again []*shard
		var askAgain [][]string
		for i, c := range calls {
			seen, failed := c.watched(len(asked[i]))
			if failed != nil {
				err = join(err, failed)
				continue
			}
			if more := s.looked(shards[i], asked[i], seen); len(more) > 0 {
				again, askAgain = append(again, shards[i]), append(askAgain, more)
			}
		}
		shards, asked = again, askAgain
	}
	return err
}

func watchCall(h *shard, destinations []string) *call {
	c := &call{script: watchScript, keys: h.block(blockSize*len(destinations) + taskKeys)}
	for _, d := range destinations {
		c.keys = h.queue(c.keys, d)
		c.args = append(c.args, d)
	}
	c.keys = h.expected(c.keys)
	return c
}

// watched is the answer of watch.lua: the times of a partition, all its destinations, and the numbers of those asked for.
type watched struct {
	run, now     int64
	known        []string
	destinations []watchedDestination
	tasks        taskCount
}

// watchedDestination holds what watch.lua returns of one destination. Times are microseconds.
type watchedDestination struct {
	pending, leased, dead, delivered int64
	paused                           bool
	oldest, next, expired            int64
}

func (c *call) watched(destinations int) (w watched, err error) {
	if c.err != nil {
		return w, c.err
	}
	r := c.read()
	w.run, w.now, w.known = r.number(), r.number(), r.texts()
	w.destinations = make([]watchedDestination, destinations)
	for i := range w.destinations {
		w.destinations[i] = watchedDestination{
			pending: r.number(), leased: r.number(), dead: r.number(), delivered: r.number(), paused: r.number() == 1,
			oldest: r.number(), next: r.number(), expired: r.number(),
		}
	}
	w.tasks = r.taskCount()
	return w, r.done()
}

// looked records what was seen of a partition. If there are more destinations than were asked for, it returns all.
func (s *Store) looked(h *shard, asked []string, seen watched) (all []string) {
	for _, name := range seen.known {
		if !slices.Contains(asked, name) {
			all = append(all, name)
		}
	}
	var counts []relay.Count
	for i, d := range asked {
		if !slices.Contains(seen.known, d) {
			continue // Redis has lost its data
		}
		n := seen.destinations[i]
		counts = append(counts, relay.Count{
			Source: h.source, Destination: d, Pending: n.pending, InFlight: n.leased, Dead: n.dead, Delivered: n.delivered,
			Paused: n.paused, OldestPending: time.Duration(n.oldest) * time.Microsecond, LeaseExpired: n.expired,
		})
		s.horizon.set(h, d, time.Duration(n.next)*time.Microsecond)
		if n.next == 0 && !n.paused {
			s.wake(relay.DestinationName{Source: h.source, Destination: d})
		}
	}
	s.tally.set(h, counts)
	s.taskTally.set(h, seen.tasks)
	if all != nil {
		all = append(all, asked...)
	}
	return all
}

// times are those of a partition: its own, by which ages are measured, and Redis's, by which deliveries are due.
type times struct{ run, now int64 }

// clocks returns the times of partitions: of those that can be asked, if there is an error. It ends the leases of destinations
// that have expired.
func (s *Store) clocks(ctx context.Context, shards []*shard, destinations ...string) (clocks map[*shard]times, err error) {
	calls := make([]*call, len(shards))
	for i, h := range shards {
		calls[i] = watchCall(h, destinations)
	}
	s.run(ctx, calls...)
	clocks = make(map[*shard]times, len(shards))
	for i, h := range shards {
		seen, failed := calls[i].watched(len(destinations))
		if failed != nil {
			err = join(err, failed)
			continue
		}
		for j, d := range destinations {
			expired := seen.destinations[j].expired
			s.tally.add(h, d, func(c *relay.Count) {
				c.LeaseExpired += expired
				c.InFlight -= expired
				c.Pending += expired
			})
		}
		clocks[h] = times{seen.run, seen.now}
	}
	return clocks, err
}
