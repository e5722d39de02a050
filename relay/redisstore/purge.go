package redisstore

import (
	"cmp"
	"context"
	"errors"
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
		err = errors.Join(err, failed)
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

// purgeSource deletes what is past its retention of one source, and says how much it touched.
func (s *Store) purgeSource(ctx context.Context, source string, p relay.PurgePolicy, room int, result *relay.PurgeResult) (touched int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	window, ok := p.Windows[source]
	if !ok {
		window = p.DefaultWindow
	}
	forget := &call{script: forgetScript, keys: s.keys.source(source, 0), args: []any{window.Microseconds(), relay.MaxTouched}}
	tasks := s.taskCall(taskPurgeScript, source, p.Retention.Microseconds(), relay.MaxTouched)
	if s.run(ctx, forget, tasks); forget.err != nil {
		return 0, forget.err
	}
	ended, err := tasks.count()
	if err != nil {
		return 0, cmp.Or(tasks.err, err)
	}
	r := forget.read()
	forgotten, run := r.number(), r.number()
	if err := r.done(); err != nil {
		return 0, err
	}
	if forgotten >= relay.MaxTouched || ended == relay.MaxTouched {
		result.More = true
	}
	destinations := s.tally.destinations(source)
	most := max(1, room/max(1, len(destinations)))
	pipe := s.client.Pipeline()
	past := func(key string, retention time.Duration) *redis.StringSliceCmd {
		return pipe.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: key, ByScore: true, Start: "-inf", Stop: strconv.FormatInt(run-retention.Microseconds(), 10), Count: int64(most),
		})
	}
	settled, buried := past(s.keys.settled(source), p.Retention), past(s.keys.buried(source), p.DeadLetterRetention)
	done := pipe.LRange(ctx, s.keys.done(source), 0, int64(most)-1)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, explain(err)
	}
	ids := append(settled.Val(), buried.Val()...)
	entries := done.Val()
	for i, entry := range entries {
		at, id, _ := strings.Cut(entry, " ")
		if n, _ := strconv.ParseInt(at, 10, 64); len(ids) >= most || run-n < p.Retention.Microseconds() {
			entries = entries[:i]
			break
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if len(ids) >= most {
		ids, result.More = ids[:most], true
	}
	if err := s.look(ctx, source); err != nil { // no destination may be missed: its deliveries would stay for ever
		return 0, err
	}
	destinations = s.tally.destinations(source)
	c := &call{script: purgeScript, durable: true, keys: s.keys.source(source, blockSize*len(destinations)+2*len(ids))}
	c.args = append(c.args, len(destinations), p.Retention.Microseconds(), p.DeadLetterRetention.Microseconds(), len(entries))
	for _, entry := range entries {
		c.args = append(c.args, entry)
	}
	for _, d := range destinations {
		c.keys = s.keys.destination(c.keys, source, d)
		c.args = append(c.args, d)
	}
	for _, id := range ids {
		c.keys = append(c.keys, s.keys.event(source, id), s.keys.payload(source, id))
		c.args = append(c.args, id)
	}
	if s.run(ctx, c); c.err != nil {
		return 0, c.err
	}
	r = c.read()
	events, gone := r.number(), r.numbers(2*len(destinations))
	if err := r.done(); err != nil {
		return 0, err
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
	return len(ids) * max(1, len(destinations)), s.look(ctx, source)
}
