package redisstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Replay implements relay.Store.
func (s *Store) Replay(ctx context.Context, id string, destinations []string, variant int) (replayed, skipped int, err error) {
	ctx, end, err := s.beginForOperator(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	h, err := s.find(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	destinations = slices.Compact(slices.Sorted(slices.Values(destinations)))
	c := &call{
		script: replayScript, durable: true,
		keys: append(h.block(1+blockSize*len(destinations)), h.event(id)),
		args: []any{id, strconv.Itoa(variant)},
	}
	for _, d := range destinations {
		c.keys = h.queue(c.keys, d)
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
		return 0, 0, fmt.Errorf("variant %d of event %q: %w", variant, id, relay.ErrNotFound)
	}
	for _, d := range destinations {
		s.rouse(relay.DestinationName{Source: h.source, Destination: d})
	}
	return int(done), int(left), s.look(ctx, h)
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
	if err := s.learn(ctx, true); err != nil {
		return err
	}
	var calls []*call
	for _, h := range s.shards(source) {
		calls = append(calls, &call{script: pauseScript, durable: true, keys: h.block(0), args: []any{destination, paused}})
	}
	s.run(ctx, calls...)
	for i, h := range s.shards(source) {
		if err = join(err, calls[i].err); calls[i].err == nil {
			s.tally.add(h, destination, func(c *relay.Count) { c.Paused = paused })
		}
	}
	s.rouse(relay.DestinationName{Source: source, Destination: destination}) // paused lanes learn of it by their next lease, too
	return err
}

// Redrive implements relay.Store.
func (s *Store) Redrive(ctx context.Context, sel relay.Selection, p relay.Pace, cursor string) (n int, next string, err error) {
	from, err := parseCursor(cursor)
	if err != nil {
		return 0, "", err
	}
	begun := time.Now()
	return s.bulk(ctx, sel, from, func(group []letter) *call {
		c := groupCall(redriveScript, group)
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

// ReplayAll implements relay.Store. The deliveries of each destination are replayed in one script of each partition.
func (s *Store) ReplayAll(ctx context.Context, source string, deliveries []relay.DeliveryName, p relay.Pace) (replayed, skipped int, err error) {
	begun := time.Now()
	ctx, end, err := s.beginForOperator(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer end()
	ids := make([]string, len(deliveries))
	for i, d := range deliveries {
		ids[i] = d.EventID
	}
	found, err := s.locate(ctx, s.shards(source), ids)
	if err != nil {
		return 0, 0, err
	}
	var letters []letter
	for i, d := range deliveries {
		if h := found[d.EventID]; h != nil { // else it is gone
			letters = append(letters, letter{row: row{shard: h, destination: d.Destination, id: d.EventID}, place: i})
		}
	}
	if len(letters) == 0 {
		return 0, len(deliveries), nil
	}
	var calls []*call
	groups := grouping(letters)
	for _, group := range groups {
		c := groupCall(replayAllScript, group)
		c.args = append(c.args, group[0].destination, ago(p, begun))
		for _, l := range group {
			c.args = append(c.args, l.id, p.Due(l.place).Microseconds())
		}
		calls = append(calls, c)
	}
	s.run(ctx, calls...)
	replayed, err = counts(calls)
	return replayed, len(deliveries) - replayed, join(err, s.touched(ctx, groups))
}

// behindLetters is a row behind all dead letters, where a step begins that has only orphans to discard.
var behindLetters = &row{shard: &shard{}, seq: math.MaxInt64}

// Discard implements relay.Store.
func (s *Store) Discard(ctx context.Context, sel relay.Selection, cursor string) (n int, next string, err error) {
	from, err := parseCursor(cursor)
	if err != nil {
		return 0, "", err
	}
	discard := func(group []letter) *call {
		c := groupCall(discardScript, group)
		c.args = append(c.args, group[0].destination, sel.Orphaned)
		for _, l := range group {
			c.args = append(c.args, l.id)
		}
		return c
	}
	n, next, err = s.bulk(ctx, sel, from, discard)
	if err != nil || !sel.Orphaned || next != "" {
		return n, next, err
	}
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return n, "", err
	}
	defer end()
	shards := s.shards(sel.Source)
	if _, err := s.clocks(ctx, shards, sel.Destination); err != nil {
		return n, "", err
	}
	pending, err := s.pending(ctx, shards, sel.Destination, relay.MaxTouched-n, func(*shard) int64 { return math.MaxInt64 })
	if err != nil || len(pending) == 0 {
		return n, "", err
	}
	var calls []*call
	for _, group := range grouping(pending) {
		calls = append(calls, discard(group))
	}
	s.run(ctx, calls...)
	done, err := counts(calls)
	if err != nil {
		return n + done, "", err
	}
	if n+len(pending) == relay.MaxTouched {
		next = behindLetters.cursor()
	}
	return n + done, next, s.look(ctx, shards...)
}

// touched wakes the lanes of queues that were changed in bulk, and counts anew.
func (s *Store) touched(ctx context.Context, groups [][]letter) error {
	var shards []*shard
	for _, g := range groups {
		s.rouse(relay.DestinationName{Source: g[0].source, Destination: g[0].destination})
		shards = with(shards, g[0].shard)
	}
	return s.look(ctx, shards...)
}

// counts sums up what calls have counted.
func counts(calls []*call) (sum int, err error) {
	for _, c := range calls {
		if c.err != nil {
			err = join(err, c.err)
			continue
		}
		n, failed := c.count()
		sum, err = sum+n, join(err, failed)
	}
	return sum, err
}

// bulkRows is how many dead letters one step of bulk work looks at, most of which may be of another time than is selected.
const bulkRows = 20 * relay.MaxTouched

// bulk does something with up to MaxTouched dead letters of a selection that come after a row, oldest first: with those
// of each destination in one script of each partition. A script counts only what another gateway has not done meanwhile. next
// is the cursor of the last row, and empty if there are no more.
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
	var touched [][]letter
	defer func() { err = join(err, s.touched(ctx, touched)) }()
	for seen := 0; done < relay.MaxTouched && seen < bulkRows; {
		n := relay.MaxTouched - done
		letters, rows, err := s.letters(ctx, shelves, sel, from, false, n)
		if err != nil {
			return done, "", err
		}
		seen += len(rows)
		for i := range letters {
			letters[i].place = done + i
		}
		var calls []*call
		groups := grouping(letters)
		for _, group := range groups {
			calls = append(calls, do(group))
		}
		touched = append(touched, groups...)
		if len(calls) > 0 {
			s.run(ctx, calls...)
		}
		some, err := counts(calls)
		if done += some; err != nil {
			return done, "", err
		}
		if len(rows) < n {
			return done, "", nil
		}
		from = &rows[len(rows)-1]
	}
	return done, from.cursor(), nil
}
