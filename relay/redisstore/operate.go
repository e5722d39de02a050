package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Replay implements relay.Store.
func (s *Store) Replay(ctx context.Context, id string, destinations []string, variant int) (replayed, skipped int, err error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	source, err := s.find(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	destinations = slices.Compact(slices.Sorted(slices.Values(destinations)))
	c := &call{
		script: replayScript, durable: true,
		keys: append(s.keys.source(source, 1+blockSize*len(destinations)), s.keys.event(source, id)),
		args: []any{id, strconv.Itoa(variant)},
	}
	for _, d := range destinations {
		c.keys = s.keys.destination(c.keys, source, d)
		c.args = append(c.args, d)
	}
	if s.run(ctx, c); c.err != nil {
		return 0, 0, c.err
	}
	r := c.read()
	found, done, left := r.number() == 1, r.number(), r.number()
	if err := r.done(); err != nil {
		return 0, 0, err
	}
	if !found {
		return 0, 0, fmt.Errorf("event %s, variant %d: %w", id, variant, relay.ErrNotFound)
	}
	for _, d := range destinations {
		name := relay.DestinationName{Source: source, Destination: d}
		s.wake(name)
		s.tell(name)
	}
	return int(done), int(left), s.look(ctx, source)
}

// Pause implements relay.Store. Every gateway obeys from its next lease on.
func (s *Store) Pause(ctx context.Context, source, destination string, paused bool) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	s.used[source] = true
	s.mu.Unlock()
	c := &call{script: pauseScript, durable: true, keys: s.keys.source(source, 0), args: []any{destination, paused}}
	if s.run(ctx, c); c.err != nil {
		return c.err
	}
	name := relay.DestinationName{Source: source, Destination: destination}
	s.tally.add(name, func(c *relay.Count) { c.Paused = paused })
	s.wake(name) // paused lanes learn of it by their next lease, too
	s.tell(name)
	return nil
}

// Redrive implements relay.Store.
func (s *Store) Redrive(ctx context.Context, sel relay.Selection, p relay.Pace, cursor string) (n int, next string, err error) {
	from, err := parseCursor(cursor)
	if err != nil {
		return 0, "", err
	}
	begun := time.Now()
	return s.bulk(ctx, sel, from, func(group []letter) *call {
		c := s.groupCall(redriveScript, group)
		c.args = append(c.args, ago(p, begun))
		for _, l := range group {
			c.args = append(c.args, l.id, p.Due(l.place).Microseconds())
		}
		return c
	})
}

// ago returns how long ago an operation was asked for, in microseconds, where that was known at a time. It is 0 for one that
// is not part of another.
func ago(p relay.Pace, at time.Time) int64 {
	if p.Asked <= 0 {
		return 0
	}
	return (p.Asked + time.Since(at)).Microseconds() + 1
}

// ReplayAll implements relay.Store. The deliveries of each destination are replayed in one script.
func (s *Store) ReplayAll(ctx context.Context, source string, deliveries []relay.DeliveryName, p relay.Pace) (replayed, skipped int, err error) {
	begun := time.Now()
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	byName := map[string]*call{}
	var calls []*call
	for i, d := range deliveries {
		c := byName[d.Destination]
		if c == nil {
			c = &call{
				script: replayAllScript, durable: true,
				keys: s.keys.destination(s.keys.source(source, blockSize+len(deliveries)), source, d.Destination),
				args: []any{d.Destination, ago(p, begun)},
			}
			byName[d.Destination], calls = c, append(calls, c)
		}
		c.keys = append(c.keys, s.keys.event(source, d.EventID))
		c.args = append(c.args, d.EventID, p.Due(i).Microseconds())
	}
	if len(calls) == 0 {
		return 0, 0, nil
	}
	s.run(ctx, calls...)
	for _, c := range calls {
		n, failed := 0, c.err
		if failed == nil {
			n, failed = c.count()
		}
		replayed, err = replayed+n, errors.Join(err, failed)
	}
	for d := range byName {
		name := relay.DestinationName{Source: source, Destination: d}
		s.wake(name)
		s.tell(name)
	}
	return replayed, len(deliveries) - replayed, errors.Join(err, s.look(ctx, source))
}

// Discard implements relay.Store.
func (s *Store) Discard(ctx context.Context, sel relay.Selection) (int, error) {
	discard := func(group []letter) *call {
		c := s.groupCall(discardScript, group)
		c.args = append(c.args, sel.Orphaned)
		for _, l := range group {
			c.args = append(c.args, l.id)
		}
		return c
	}
	n, _, err := s.bulk(ctx, sel, nil, discard)
	if err != nil || !sel.Orphaned || n == relay.MaxTouched {
		return n, err
	}
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return n, err
	}
	defer end()
	if _, _, err := s.clock(ctx, sel.Source, sel.Destination); err != nil {
		return n, err
	}
	pending, err := s.pending(ctx, sel.Source, sel.Destination, "+inf", relay.MaxTouched-n)
	if err != nil || len(pending) == 0 {
		return n, err
	}
	c := discard(pending)
	if s.run(ctx, c); c.err != nil {
		return n, c.err
	}
	done, err := c.count()
	if err != nil {
		return n, err
	}
	return n + done, s.look(ctx, sel.Source)
}

// groupCall begins a call on deliveries of one destination.
func (s *Store) groupCall(script *script, group []letter) *call {
	source, destination := group[0].source, group[0].destination
	c := &call{script: script, durable: true, keys: s.keys.destination(s.keys.source(source, blockSize+len(group)), source, destination)}
	for _, l := range group {
		c.keys = append(c.keys, s.keys.event(source, l.id))
	}
	return c
}

// bulk does something with up to MaxTouched dead letters of a selection that come after a row, oldest first: with those
// of each destination in one script. A script counts only what another gateway has not done meanwhile. next is the cursor
// of the last row, and empty if there are no more.
func (s *Store) bulk(ctx context.Context, sel relay.Selection, from *row, do func([]letter) *call) (done int, next string, err error) {
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return 0, "", err
	}
	defer end()
	shelves, err := s.deadShelves(ctx, sel)
	if err != nil {
		return 0, "", err
	}
	touched := map[relay.DestinationName]bool{}
	defer func() {
		for name := range touched {
			s.wake(name)
			s.tell(name)
			err = errors.Join(err, s.look(ctx, name.Source))
		}
	}()
	for done < relay.MaxTouched {
		n := relay.MaxTouched - done
		letters, rows, err := s.letters(ctx, shelves, sel, from, false, n)
		if err != nil {
			return done, "", err
		}
		groups := map[relay.DestinationName][]letter{}
		var names []relay.DestinationName // in the order of their oldest
		for i, l := range letters {
			l.place = done + i
			name := relay.DestinationName{Source: l.source, Destination: l.destination}
			if groups[name] == nil {
				names = append(names, name)
			}
			groups[name] = append(groups[name], l)
		}
		var calls []*call
		for _, name := range names {
			calls = append(calls, do(groups[name]))
			touched[name] = true
		}
		if len(calls) > 0 {
			s.run(ctx, calls...)
		}
		for _, c := range calls {
			if c.err != nil {
				return done, "", c.err
			}
			n, err := c.count()
			if err != nil {
				return done, "", err
			}
			done += n
		}
		if len(rows) < n {
			return done, "", nil
		}
		from = &rows[len(rows)-1]
	}
	return done, from.cursor(), nil
}
