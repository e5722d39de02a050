package redisstore

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Purge implements relay.Store.
func (s *Store) Purge(ctx context.Context, p relay.PurgePolicy) (relay.PurgeResult, error) {
	result := relay.PurgeResult{
		DeadLetters: map[relay.DestinationName]int{},
		Deliveries:  map[relay.DestinationName]int{},
	}
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return result, err
	}
	defer end()
	sources, err := s.selected(ctx, "")
	if err != nil {
		return result, err
	}
	room := relay.MaxTouched
	for _, source := range sources {
		touched, failed := s.purgeSource(ctx, source, p, room, &result)
		err = join(err, failed)
		if _, several := s.client.(*redis.ClusterClient); failed != nil && !several {
			break // in a Cluster the others may be on another master
		}
		if room -= touched; room <= 0 {
			result.More = true
			break
		}
	}
	return result, err
}

// purgeSource deletes what is past its retention of one source, and returns how much it touched. Each step goes to all partitions
// in one pipeline; one that fails is left for the next time.
func (s *Store) purgeSource(ctx context.Context, source string, p relay.PurgePolicy, room int, result *relay.PurgeResult) (touched int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	runs, err := s.forget(ctx, source, p, result)
	if len(runs) == 0 {
		return 0, err
	}
	old, failed := s.outlived(ctx, runs, p, max(1, room/max(1, len(s.tally.destinations(source)))), result)
	err = join(err, failed)
	if len(old) == 0 {
		return 0, err
	}
	var shards []*shard
	for _, o := range old {
		shards = append(shards, o.shard)
	}
	if failed := s.look(ctx, shards...); failed != nil { // no destination may be missed: its deliveries would stay for ever
		return 0, join(err, failed)
	}
	destinations := s.tally.destinations(source)
	calls := make([]*call, len(old))
	for i, o := range old {
		calls[i] = o.call(p, destinations)
		touched += len(o.ids) * max(1, len(destinations))
	}
	s.run(ctx, calls...)
	for _, c := range calls {
		err = join(err, purged(c, source, destinations, result))
	}
	return touched, join(err, s.look(ctx, shards...))
}

// forget deletes the dedupe records and the tasks of a source that are past their time, and returns the clocks of its partitions.
func (s *Store) forget(ctx context.Context, source string, p relay.PurgePolicy, result *relay.PurgeResult) (runs map[*shard]int64, err error) {
	window, ok := p.Windows[source]
	if !ok {
		window = p.DefaultWindow
	}
	shards := s.shards(source)
	calls := make([]*call, 0, 2*len(shards))
	for _, h := range shards {
		calls = append(calls,
			&call{script: forgetScript, keys: h.block(0), args: []any{window.Microseconds(), relay.MaxTouched}},
			taskCall(taskPurgeScript, h, p.Retention.Microseconds(), relay.MaxTouched))
	}
	s.run(ctx, calls...)
	runs = make(map[*shard]int64, len(shards))
	for i, h := range shards {
		forget, tasks := calls[2*i], calls[2*i+1]
		if failed := cmp.Or(forget.err, tasks.err); failed != nil {
			err = join(err, failed)
			continue
		}
		ended, failed := tasks.count()
		r := forget.read()
		forgotten, run := r.number(), r.number()
		if failed = cmp.Or(failed, r.done()); failed != nil {
			err = join(err, failed)
			continue
		}
		runs[h] = run
		if forgotten >= relay.MaxTouched || ended == relay.MaxTouched {
			result.More = true
		}
	}
	return runs, err
}

// outlived are events of a partition that are past their retention.
type outlived struct {
	*shard
	ids     []string
	entries []string // with which the list of last settles begins
}

// outlived finds up to most events of a source that are past their retention.
func (s *Store) outlived(ctx context.Context, runs map[*shard]int64, p relay.PurgePolicy, most int, result *relay.PurgeResult) (old []outlived, err error) {
	pipe := s.client.Pipeline()
	past := func(key string, run int64, retention time.Duration) *redis.StringSliceCmd {
		return pipe.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: key, ByScore: true, Start: "-inf", Stop: strconv.FormatInt(run-retention.Microseconds(), 10), Count: int64(most),
		})
	}
	lists := make(map[*shard][3]*redis.StringSliceCmd, len(runs))
	for h, run := range runs {
		lists[h] = [...]*redis.StringSliceCmd{
			past(h.settled(), run, p.Retention), past(h.buried(), run, p.DeadLetterRetention), pipe.LRange(ctx, h.done(), 0, int64(most)-1),
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	left := most
	for h, l := range lists {
		if failed := cmp.Or(l[0].Err(), l[1].Err(), l[2].Err()); failed != nil {
			err = join(err, explain(failed))
			continue
		}
		o := outlived{shard: h, ids: append(l[0].Val(), l[1].Val()...)}
		for _, entry := range l[2].Val() {
			at, id, _ := strings.Cut(entry, " ")
			if n, _ := strconv.ParseInt(at, 10, 64); len(o.ids) >= left || runs[h]-n < p.Retention.Microseconds() {
				break
			}
			o.ids, o.entries = append(o.ids, id), append(o.entries, entry)
		}
		if len(o.ids) >= left {
			o.ids, result.More = o.ids[:left], true
		}
		if left -= len(o.ids); len(o.ids) > 0 {
			old = append(old, o)
		}
	}
	return old, err
}

// call makes the call that deletes events.
func (o outlived) call(p relay.PurgePolicy, destinations []string) *call {
	c := &call{script: purgeScript, durable: true, keys: o.block(blockSize*len(destinations) + 2*len(o.ids))}
	c.args = append(c.args, len(destinations), p.Retention.Microseconds(), p.DeadLetterRetention.Microseconds(), len(o.entries))
	for _, entry := range o.entries {
		c.args = append(c.args, entry)
	}
	for _, d := range destinations {
		c.keys = o.queue(c.keys, d)
		c.args = append(c.args, d)
	}
	for _, id := range o.ids {
		c.keys = append(c.keys, o.event(id), o.payload(id))
		c.args = append(c.args, id)
	}
	return c
}

// purged adds to a result what a call has deleted.
func purged(c *call, source string, destinations []string, result *relay.PurgeResult) error {
	if c.err != nil {
		return c.err
	}
	r := c.read()
	events, gone := r.number(), r.numbers(2*len(destinations))
	if err := r.done(); err != nil {
		return err
	}
	result.Events += int(events)
	for i, d := range destinations {
		name := relay.DestinationName{Source: source, Destination: d}
		if gone[2*i] > 0 {
			result.Deliveries[name] += int(gone[2*i])
		}
		if gone[2*i+1] > 0 {
			result.DeadLetters[name] += int(gone[2*i+1])
		}
	}
	return nil
}
