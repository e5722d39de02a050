package redisstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

// clusterPartitions is how many partitions a source has where the options do not say, on a Cluster. Elsewhere it is one.
const clusterPartitions = 16

// shards returns the partitions of a source. The caller has entered, so that their number is known.
func (s *Store) shards(source string) []*shard { return s.layout.Load().of(source) }

// allShards returns the partitions of sources.
func (s *Store) allShards(sources []string) (all []*shard) {
	for _, source := range sources {
		all = append(all, s.shards(source)...)
	}
	return all
}

// learn makes sure that the number of partitions is known: the one that the prefix was written with. Where nothing has been
// written yet it is what the options say, until claim stores it, which the first gateway that writes does.
func (s *Store) learn(ctx context.Context, claim bool) error {
	if s.misfit.Load() == nil && (s.claimed.Load() || !claim && s.layout.Load() != nil) {
		return nil
	}
	return s.readPartitions(ctx, claim)
}

// readPartitions reads the number of partitions that the prefix was written with, and compares it to that of this gateway.
// Where there is none, claim stores it.
func (s *Store) readPartitions(ctx context.Context, claim bool) error {
	ctx, cancel := s.toRegistry(ctx)
	defer cancel()
	n := 0
	there, err := s.client.Get(ctx, s.keys.partitions()).Result()
	if isNil(err) {
		if n, err = s.unwritten(ctx); err == nil && claim {
			there, err = s.claim(ctx, n)
		}
	}
	if err != nil {
		return explain(err)
	}
	if there != "" {
		if n, err = strconv.Atoi(there); err != nil || n < 1 || n > MaxPartitions {
			return fmt.Errorf("%w: redis: key %s holds %.20q, which is no number of partitions", relay.ErrUnavailable, s.keys.partitions(), there)
		}
	}
	misfit := s.misfits(n)
	s.misfit.Store(misfit)
	if misfit != nil {
		return misfit
	}
	if l := s.layout.Load(); l == nil || l.partitions != n {
		s.layout.Store(newLayout(s.keys, n))
	}
	if there != "" {
		s.claimed.Store(true)
	}
	return nil
}

// unwritten returns the number of partitions of a prefix that has none stored: one, if a gateway that did not know of
// partitions has written there, and else what this one uses, or would.
func (s *Store) unwritten(ctx context.Context) (int, error) {
	if s.claimed.Load() {
		return s.layout.Load().partitions, nil // Redis has lost its data
	}
	n, err := s.client.SCard(ctx, s.keys.sources()).Result()
	if err != nil || n > 0 {
		return 1, err
	}
	return s.partitions, nil
}

// claim stores the number of partitions unless there is one, and returns the one that is there then.
func (s *Store) claim(ctx context.Context, n int) (string, error) {
	pipe := s.client.Pipeline()
	pipe.SetNX(ctx, s.keys.partitions(), n, 0)
	there := pipe.Get(ctx, s.keys.partitions())
	_, err := pipe.Exec(ctx)
	return there.Val(), err
}

// misfits returns an error if the prefix has another number of partitions than this gateway uses. A Cluster's default leaves a
// prefix with one partition as it is; what was written with a number fits no other one.
func (s *Store) misfits(n int) *PartitionsError {
	want := s.partitions
	switch {
	case s.claimed.Load():
		want = s.layout.Load().partitions
	case n == 1 && s.options.Partitions == 0:
		return nil
	}
	if n == want {
		return nil
	}
	return &PartitionsError{Prefix: s.options.KeyPrefix, Want: want, Have: n}
}

// PartitionsError is the error of a gateway that is to use a prefix with another number of partitions than it was written with.
// It is an outage too, so that what comes meanwhile is spooled.
type PartitionsError struct {
	Prefix     string
	Want, Have int
}

func (e *PartitionsError) Error() string {
	return fmt.Sprintf("redis: the prefix %q was written with partitions %d, and this gateway has partitions %d: set partitions %d, or use another key_prefix, "+
		"to which gateways move once those of the old one have delivered everything", e.Prefix, e.Have, e.Want, e.Have)
}

// Unwrap returns what kind of error it is.
func (e *PartitionsError) Unwrap() []error { return []error{relay.ErrUnavailable, relay.ErrStoreUnfit} }
