package redisstore

import (
	"context"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Clock implements relay.ClockedStore. With several masters it is that of any.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	ctx, end, err := s.holdBriefly(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer end()
	now, err := s.client.Time(ctx).Result()
	return now, explain(err)
}

var _ relay.ClockedStore = (*Store)(nil)
