package redisstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// watchEvery is how often each source is looked at: its clock moves on, its deliveries are counted, and lanes that have
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
			s.watch(s.closing)
		}
	}
}

// watch looks at all sources.
func (s *Store) watch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	// Without the registry, what is known of it is looked at all the same: of a Cluster one master may be away.
	err := errors.Join(s.readRegistry(ctx), s.look(ctx, s.known()...))
	if s.closing.Err() != nil {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	before := s.trouble
	s.trouble = text
	s.mu.Unlock()
	switch {
	case text != "" && before == "":
		s.log.Error("redis does not answer as it should", "error", err)
	case text == "" && before != "":
		s.log.Info("redis answers again")
	}
}

// readRegistry learns which sources there are, and adds those of this process that Redis has lost.
func (s *Store) readRegistry(ctx context.Context) error {
	ctx, cancel := s.toRegistry(ctx)
	defer cancel()
	names, err := s.client.SMembers(ctx, s.keys.sources()).Result()
	if err != nil {
		return explain(err)
	}
	registered := make(map[string]bool, len(names))
	for _, n := range names {
		registered[n] = true
	}
	s.mu.Lock()
	s.sources = registered
	var lost []any
	for n := range s.used {
		if !registered[n] {
			lost = append(lost, n)
		}
	}
	s.mu.Unlock()
	if lost == nil {
		return nil
	}
	return explain(s.client.SAdd(ctx, s.keys.sources(), lost...).Err())
}

// toRegistry bounds a look at the registry: it may be on another master than what is to be done next.
func (s *Store) toRegistry(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.options.Timeout/4)
}

// known are all sources, those too that no config names any more.
func (s *Store) known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.sources)
	maps.Copy(all, s.used)
	return slices.Sorted(maps.Keys(all))
}

// look counts the deliveries of sources, and wakes the lanes that have something due. It looks at all of them, even if
// some cannot be asked.
func (s *Store) look(ctx context.Context, sources ...string) (err error) {
	asked := make([][]string, len(sources))
	for i, source := range sources {
		asked[i] = s.tally.destinations(source)
	}
	// A destination may be new to this process: then a second look includes it.
	for range 2 {
		if len(sources) == 0 {
			return err
		}
		calls := make([]*call, len(sources))
		for i, source := range sources {
			c := &call{script: watchScript, keys: s.keys.source(source, blockSize*len(asked[i]))}
			for _, d := range asked[i] {
				c.keys = s.keys.destination(c.keys, source, d)
				c.args = append(c.args, d)
			}
			calls[i] = c
		}
		s.run(ctx, calls...)
		var again []string
		var askAgain [][]string
		for i, c := range calls {
			if c.err != nil {
				err = errors.Join(err, c.err)
				continue
			}
			if known := s.looked(sources[i], asked[i], c.reply); len(known) > 0 {
				again, askAgain = append(again, sources[i]), append(askAgain, known)
			}
		}
		sources, asked = again, askAgain
	}
	return err
}

// width is how many numbers watch.lua gives of a destination.
const width = 8

// looked takes what watch.lua gave of a source. If there are more destinations than were asked for, it gives all.
func (s *Store) looked(source string, asked []string, reply any) (all []string) {
	list, _ := reply.([]any)
	if len(list) != 3+width*len(asked) {
		return nil
	}
	known := map[string]bool{}
	names, _ := list[2].([]any)
	for _, n := range names {
		name, _ := n.(string)
		known[name] = true
		if !slices.Contains(asked, name) {
			all = append(all, name)
		}
	}
	n := numbers(reply, 3)
	var counts []relay.Count
	for i, d := range asked {
		row := n[i*width : (i+1)*width]
		if !known[d] {
			continue // Redis has lost its data
		}
		counts = append(counts, relay.Count{
			Source: source, Destination: d, Pending: row[0], InFlight: row[1], Dead: row[2], Delivered: row[3],
			Paused: row[4] == 1, OldestPending: time.Duration(row[5]) * time.Microsecond,
			LeaseExpired: row[7],
		})
		if row[6] == 0 && row[4] == 0 {
			s.wake(relay.DestinationName{Source: source, Destination: d})
		}
	}
	s.tally.set(source, counts)
	if all != nil {
		all = append(all, asked...)
	}
	return all
}

// clock gives the times of a source: its own, by which ages are measured, and Redis's, by which deliveries are due. It
// ends the leases of destinations that have expired.
func (s *Store) clock(ctx context.Context, source string, destinations ...string) (run, now int64, err error) {
	c := &call{script: watchScript, keys: s.keys.source(source, blockSize*len(destinations))}
	for _, d := range destinations {
		c.keys = s.keys.destination(c.keys, source, d)
		c.args = append(c.args, d)
	}
	if s.run(ctx, c); c.err != nil {
		return 0, 0, c.err
	}
	n := numbers(c.reply, 0)
	for i, d := range destinations {
		expired := n[3+width*i+7]
		s.tally.add(relay.DestinationName{Source: source, Destination: d}, func(c *relay.Count) {
			c.LeaseExpired += expired
			c.InFlight -= expired
			c.Pending += expired
		})
	}
	return n[0], n[1], nil
}
