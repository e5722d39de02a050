package redisstore

import (
	"context"
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
	run, _, err := s.clock(ctx, source, destination)
	if err != nil {
		return nil, err
	}
	old, err := s.pending(ctx, source, destination, strconv.FormatInt(run-age.Microseconds(), 10), relay.MaxTouched)
	if err != nil || len(old) == 0 {
		return nil, err
	}
	for i := range old {
		old[i].reason = relay.ErrExpired.Error()
	}
	letters, err := s.describe(ctx, old)
	if err != nil {
		return nil, err
	}
	c := s.groupCall(expireScript, old)
	c.args = append(c.args, age.Microseconds(), relay.ErrExpired.Error())
	for _, l := range old {
		c.args = append(c.args, l.id)
	}
	if s.run(ctx, c); c.err != nil {
		return nil, c.err
	}
	r := c.read()
	var expired []relay.DeadLetter
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
	s.tally.add(relay.DestinationName{Source: source, Destination: destination}, func(c *relay.Count) {
		c.Pending -= int64(len(expired))
		c.Dead += int64(len(expired))
	})
	if len(expired) > 0 {
		_ = s.look(ctx, source) // frees what waited for them, or the next look does
	}
	return expired, nil
}

// pending returns up to n pending deliveries of a destination that were accepted at `until` by the source's clock or
// before, oldest first. What is leased is passed over.
func (s *Store) pending(ctx context.Context, source, destination, until string, n int) ([]letter, error) {
	ids, err := s.client.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: s.keys.pending(source, destination), ByScore: true, Start: "-inf", Stop: until, Count: 2 * relay.MaxTouched,
	}).Result()
	if err != nil {
		return nil, explain(err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows := make([]row, len(ids))
	for i, id := range ids {
		rows[i] = row{source: source, destination: destination, id: id}
	}
	states, err := s.states(ctx, rows)
	if err != nil {
		return nil, err
	}
	var found []letter
	for i, r := range rows {
		if states[i].state == relay.StatePending && len(found) < n {
			found = append(found, letter{row: r, record: states[i]})
		}
	}
	return found, nil
}
