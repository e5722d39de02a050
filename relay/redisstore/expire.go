package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Expire implements relay.Store.
func (s *Store) Expire(ctx context.Context, source, destination string, age time.Duration) ([]relay.DeadLetter, error) {
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	// Of a Cluster one master may be away: the partitions of the others do not wait for it.
	all := s.shards(source)
	clocks, away := s.clocks(ctx, all, destination)
	shards := slices.DeleteFunc(slices.Clone(all), func(h *shard) bool { _, ok := clocks[h]; return !ok })
	old, err := s.pending(ctx, shards, destination, relay.MaxTouched, func(h *shard) int64 {
		return clocks[h].run - age.Microseconds()
	})
	if err != nil || len(old) == 0 {
		return nil, join(away, err)
	}
	for i := range old {
		old[i].reason = relay.ErrExpired.Error()
	}
	letters, err := s.describe(ctx, old)
	if err != nil {
		return nil, err
	}
	var calls []*call
	var touched []*shard
	for _, group := range grouping(old) {
		c := groupCall(expireScript, group)
		c.args = append(c.args, destination, age.Microseconds(), relay.ErrExpired.Error())
		for _, l := range group {
			c.args = append(c.args, l.id)
		}
		calls, touched = append(calls, c), append(touched, group[0].shard)
	}
	s.run(ctx, calls...)
	var expired []relay.DeadLetter
	for i, c := range calls {
		some, failed := s.expired(c, touched[i], letters)
		expired, err = append(expired, some...), join(err, failed)
	}
	if len(expired) > 0 {
		_ = s.look(ctx, touched...) // frees what waited for them, or the next look does
		return expired, nil         // what failed is found again
	}
	return nil, join(away, err)
}

// expired returns those of some pending deliveries that a call has made dead letters.
func (s *Store) expired(c *call, h *shard, letters []relay.DeadLetter) (expired []relay.DeadLetter, err error) {
	if c.err != nil {
		return nil, c.err
	}
	r := c.read()
	for range r.groups(2) {
		id, tries := r.text(), r.number()
		j := slices.IndexFunc(letters, func(d relay.DeadLetter) bool { return d.EventID == id })
		if j < 0 {
			continue
		}
		letters[j].Attempts, letters[j].DeadAt = int(tries), time.Now()
		expired = append(expired, letters[j])
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	if len(expired) > 0 {
		s.tally.add(h, expired[0].Destination, func(c *relay.Count) {
			c.Pending -= int64(len(expired))
			c.Dead += int64(len(expired))
		})
	}
	return expired, nil
}

// pending returns up to n pending deliveries of a destination that were accepted at `until` by their partition's clock or
// before, the oldest of a partition first. What is leased is passed over.
func (s *Store) pending(ctx context.Context, shards []*shard, destination string, n int, until func(*shard) int64) (found []letter, err error) {
	const most = 2 * relay.MaxTouched
	pipe := s.client.Pipeline()
	own, due := make([]*redis.StringSliceCmd, len(shards)), make([]*redis.StringSliceCmd, len(shards))
	for i, h := range shards {
		stop := strconv.FormatInt(until(h), 10)
		own[i] = pipe.ZRangeArgs(ctx, redis.ZRangeArgs{Key: h.pending(destination), ByScore: true, Start: "-inf", Stop: stop, Count: most})
		due[i] = pipe.ZRange(ctx, h.due(destination), 0, most-1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, explain(err)
	}
	for i, h := range shards {
		unpacked, err := s.unpacked(ctx, h, destination, own[i].Val())
		if err != nil {
			return nil, err
		}
		waiting, err := s.waiting(ctx, h, destination, due[i].Val(), until(h))
		if err != nil {
			return nil, err
		}
		all := append(unpacked, waiting...)
		slices.SortStableFunc(all, func(a, b letter) int { return cmp.Compare(a.accepted, b.accepted) })
		found = append(found, all...)
		if len(found) >= n {
			return found[:n], nil
		}
	}
	return found, nil
}

// unpacked returns those of some deliveries that have a record and are pending.
func (s *Store) unpacked(ctx context.Context, h *shard, destination string, ids []string) (found []letter, err error) {
	rows := make([]row, len(ids))
	for i, id := range ids {
		rows[i] = row{shard: h, destination: destination, id: id}
	}
	if len(rows) == 0 {
		return nil, nil
	}
	states, err := s.states(ctx, rows)
	if err != nil {
		return nil, err
	}
	for i, r := range rows {
		if states[i].state == relay.StatePending {
			found = append(found, letter{row: r, record: states[i]})
		}
	}
	return found, nil
}

// waiting returns those of some deliveries that wait for their first lease, in their events' records, and were accepted at `until` or
// before.
func (s *Store) waiting(ctx context.Context, h *shard, destination string, ids []string, until int64) (found []letter, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	packs, err := s.client.HMGet(ctx, h.packs(), ids...).Result()
	if err != nil {
		return nil, explain(err)
	}
	for i, value := range packs {
		text, ok := value.(string)
		if !ok {
			continue
		}
		p, err := decodePack(text)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", ids[i], err)
		}
		if p.waiting(destination) && p.accepted <= until {
			found = append(found, letter{
				row: row{shard: h, destination: destination, id: ids[i]}, record: record{state: relay.StatePending, seq: p.seq, accepted: p.accepted},
			})
		}
	}
	return found, nil
}
