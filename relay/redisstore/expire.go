package redisstore

import (
	"context"
	"errors"
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
	old, err := s.pending(ctx, shards, destination, relay.MaxTouched, func(h *shard) string {
		return strconv.FormatInt(clocks[h].run-age.Microseconds(), 10)
	})
	if err != nil || len(old) == 0 {
		return nil, errors.Join(away, err)
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
		expired, err = append(expired, some...), errors.Join(err, failed)
	}
	if len(expired) > 0 {
		_ = s.look(ctx, touched...) // frees what waited for them, or the next look does
		return expired, nil         // what failed is found again
	}
	return nil, errors.Join(away, err)
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
func (s *Store) pending(ctx context.Context, shards []*shard, destination string, n int, until func(*shard) string) ([]letter, error) {
	pipe := s.client.Pipeline()
	lists := make([]*redis.StringSliceCmd, len(shards))
	for i, h := range shards {
		lists[i] = pipe.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: h.pending(destination), ByScore: true, Start: "-inf", Stop: until(h), Count: 2 * relay.MaxTouched,
		})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, explain(err)
	}
	var found []letter
	for i, h := range shards {
		var rows []row
		for _, id := range lists[i].Val() {
			rows = append(rows, row{shard: h, destination: destination, id: id})
		}
		if len(rows) == 0 {
			continue
		}
		states, err := s.states(ctx, rows)
		if err != nil {
			return nil, err
		}
		due, err := s.client.ZMScore(ctx, h.due(destination), lists[i].Val()...).Result()
		if err != nil {
			return nil, explain(err)
		}
		for j, r := range rows {
			if len(found) == n {
				return found, nil
			}
			if states[j].state == relay.StatePending || states[j].state == "" && due[j] > 0 { // one without a record is in its event's
				found = append(found, letter{row: r, record: states[j]})
			}
		}
	}
	return found, nil
}
