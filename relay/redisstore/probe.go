package redisstore

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// aim shares out a probe among partitions: by what is at the head of their queues, since those that were never tried go first.
// Where nothing is to be seen, leases may have expired: then each partition gets its share.
func (l *leasing) aim(ctx context.Context, s *Store) {
	found, err := s.heads(ctx, l)
	if err != nil {
		l.err = err
		return
	}
	quota := map[*shard]int{}
	for _, r := range found[:min(l.left, len(found))] {
		quota[r.shard]++
	}
	for _, h := range l.shards {
		if h.quota = quota[h.shard]; h.quota > 0 {
			l.asked = append(l.asked, h)
		}
	}
	if len(found) == 0 {
		l.asked = l.shards
		share(l.left, l.asked)
	}
}

// heads looks at the deliveries that wait at the heads of a destination's queues, and returns them in the order of a probe. It
// looks at no more of all partitions than a lease does of one.
func (s *Store) heads(ctx context.Context, l *leasing) ([]row, error) {
	pipe := s.client.Pipeline()
	lists := make([]*redis.ZSliceCmd, len(l.shards))
	for i, h := range l.shards {
		lists[i] = pipe.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: h.shard.due(l.op.Destination), ByScore: true, Start: "-inf", Stop: "(" + strconv.FormatInt(held, 10),
			Count: int64(max(l.left, relay.MaxTouched/len(l.shards))),
		})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, explain(err)
	}
	var rows []row
	for i, h := range l.shards {
		rows = append(rows, shelf{shard: h.shard, destination: l.op.Destination}.scored(lists[i].Val())...)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	states, err := s.states(ctx, rows)
	if err != nil {
		return nil, err
	}
	tried := make(map[row]int, len(rows))
	for i, r := range rows {
		tried[r] = min(1, states[i].tries)
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(tried[a], tried[b]), cmp.Compare(a.seq, b.seq)) })
	return rows, nil
}
