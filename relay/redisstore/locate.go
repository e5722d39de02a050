package redisstore

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// find returns the partition of an event. An id names no slot, so each partition of each source is asked.
func (s *Store) find(ctx context.Context, id string) (*shard, error) {
	if _, err := s.readRegistry(ctx); err != nil {
		return nil, err
	}
	found, err := s.locate(ctx, s.allShards(s.known()), []string{id})
	if err == nil && found[id] == nil {
		err = fmt.Errorf("event %q: %w", id, relay.ErrNotFound)
	}
	return found[id], err
}

// locate returns the partitions of events, among some. What is in none of them is missing.
func (s *Store) locate(ctx context.Context, among []*shard, ids []string) (map[string]*shard, error) {
	found := make(map[string]*shard, len(ids))
	if len(among) == 0 || len(ids) == 0 {
		return found, nil
	}
	pipe := s.client.Pipeline()
	there := make([]*redis.FloatCmd, 0, len(among)*len(ids))
	for _, id := range ids {
		for _, h := range among {
			there = append(there, pipe.ZScore(ctx, h.events(), id))
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, explain(err)
	}
	for i, n := range there {
		if n.Err() == nil {
			found[ids[i/len(among)]] = among[i%len(among)]
		}
	}
	return found, nil
}
