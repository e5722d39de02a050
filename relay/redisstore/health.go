package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	safePolicy    = "noeviction"
	unknownPolicy = "unknown"
)

// Health implements relay.Store. It asks every master whether it answers, has room, and would never evict. What Redis
// does not say of that is no error: Info shows it as unknown.
func (s *Store) Health(ctx context.Context) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	trouble := s.trouble
	s.mu.Unlock()

	var mu sync.Mutex
	free, policy := int64(-1), ""
	look := func(ctx context.Context, master *redis.Client) error {
		m, err := memoryOf(ctx, master)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if m.room >= 0 && (free < 0 || m.room < free) {
			free = m.room
		}
		// Of several masters the worst counts: one that evicts, then one that does not say.
		if policy == "" || policy == safePolicy || m.policy != safePolicy && m.policy != unknownPolicy {
			policy = m.policy
		}
		return m.trouble()
	}
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, look)
	case *redis.Client:
		err = look(ctx, client)
	}
	s.free.Store(free)
	if policy != "" { // at least one has been asked
		if before := *s.policy.Swap(&policy); policy == unknownPolicy && before != policy {
			s.log.Warn("redis: maxmemory-policy is unknown, since Redis does not say: see to it that it is noeviction, else deliveries may be thrown away")
		}
	}
	if err == nil && trouble != "" {
		err = errors.New(trouble)
	}
	return err
}

// memory is what a master says of its memory.
type memory struct {
	policy string
	room   int64 // bytes; -1 if that is not limited, or unknown
}

func memoryOf(ctx context.Context, master *redis.Client) (memory, error) {
	m := memory{policy: unknownPolicy, room: -1}
	text, err := master.Info(ctx, "memory").Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		return m, explain(master.Ping(ctx).Err())
	}
	if err != nil {
		return m, explain(err)
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	if policy := info["maxmemory_policy"]; policy != "" { // absent where a fork of Redis has none
		m.policy = policy
	}
	most, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	if most > 0 {
		m.room = max(0, most-used)
	}
	return m, nil
}

func (m memory) trouble() error {
	if m.policy != safePolicy && m.policy != unknownPolicy {
		return fmt.Errorf("redis: maxmemory-policy is %s, by which Redis may throw deliveries away: set it to noeviction", m.policy)
	}
	if m.room == 0 {
		return fmt.Errorf("%w: redis: maxmemory is reached", relay.ErrUnavailable)
	}
	return nil
}
