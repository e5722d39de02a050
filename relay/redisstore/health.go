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
	safePolicy = "noeviction"
	unknown    = "unknown"
)

// Health implements relay.Store. It asks every master whether it answers, has room, and would never evict, and looks at
// what its persistence is set to. What Redis does not say of that is no error: Info shows it as unknown.
func (s *Store) Health(ctx context.Context) error {
	ctx, end, err := s.holdBriefly(ctx)
	if err != nil {
		return err
	}
	defer end()
	var mu sync.Mutex
	var reports []report
	look := func(ctx context.Context, master *redis.Client) error {
		r, err := ask(ctx, master)
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, r)
		return err
	}
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, look)
	case *redis.Client:
		err = look(ctx, client)
	}
	if err != nil {
		s.seen.away()
		return join(explain(err)) // of which the text is the same at each look
	}
	for _, warning := range s.seen.take(reports) {
		s.log.Warn(warning)
	}
	for _, r := range reports {
		err = join(err, r.trouble())
	}
	return join(err, s.troubles.err())
}

// report holds what a master reports of its memory and its persistence.
type report struct {
	run         string // names this run of the server
	policy      string // maxmemory-policy, or unknown
	room        int64  // bytes to maxmemory; -1 if that is not limited, or unknown
	appendonly  string // yes, no or unknown
	appendfsync string // or unknown
	delayed     int64  // aof_delayed_fsync, counted since the start of the server; -1 if unknown
}

// ask asks a master for its report. Redis may refuse to answer any of it (the user lacks the right, the service has no
// such command), so long as it answers at all.
func ask(ctx context.Context, master *redis.Client) (report, error) {
	pipe := master.Pipeline()
	alive := pipe.Ping(ctx)
	server, memory, persistence := pipe.Info(ctx, "server"), pipe.Info(ctx, "memory"), pipe.Info(ctx, "persistence")
	config := pipe.ConfigGet(ctx, "append*")
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, c := range []redis.Cmder{alive, server, memory, persistence, config} {
		if err := c.Err(); err != nil && (c == redis.Cmder(alive) || !isReply(err)) {
			return report{}, explain(err)
		}
	}
	r := report{policy: unknown, room: -1, appendonly: unknown, appendfsync: unknown, delayed: -1}
	info := infoOf(server.Val() + "\r\n" + memory.Val() + "\r\n" + persistence.Val())
	r.run = info["run_id"]
	if policy := info["maxmemory_policy"]; policy != "" { // absent where a fork of Redis has none
		r.policy = policy
	}
	most, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	if most > 0 {
		r.room = max(0, most-used)
	}
	switch info["aof_enabled"] {
	case "0":
		r.appendonly = "no"
	case "1":
		r.appendonly = "yes"
	}
	if n, err := strconv.ParseInt(info["aof_delayed_fsync"], 10, 64); err == nil {
		r.delayed = n
	}
	if fsync := config.Val()["appendfsync"]; fsync != "" {
		r.appendfsync = fsync
	}
	if on := config.Val()["appendonly"]; on != "" {
		r.appendonly = on
	}
	return r, nil
}

func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// infoOf reads what INFO answers.
func infoOf(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func (r report) trouble() error {
	if r.policy != safePolicy && r.policy != unknown {
		return fmt.Errorf("redis: maxmemory-policy is %s, by which Redis may throw deliveries away: set it to noeviction", r.policy)
	}
	if r.room == 0 {
		return fmt.Errorf("%w: redis: maxmemory is reached", relay.ErrUnavailable)
	}
	return nil
}

// seen sums up the latest reports of all masters.
type seen struct {
	mu      sync.Mutex
	worst   report           // of all; zero before the first report
	delayed map[string]int64 // of the last look, by run
	growing bool             // delayed grew at the last look
}

// info completes what is shown of the store.
func (s *seen) info(i *relay.StoreInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i.FreeBytes = s.worst.room
	if s.worst.policy == "" { // none yet
		i.FreeBytes = -1
		i.AppendOnly, i.AppendFsync = unknown, unknown
		return
	}
	i.EvictionPolicy, i.AppendOnly, i.AppendFsync = s.worst.policy, s.worst.appendonly, s.worst.appendfsync
	if s.worst.delayed >= 0 {
		delayed := s.worst.delayed
		i.AOFDelayedFsync = &delayed
	}
}

// away notes that not every master has reported.
func (s *seen) away() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst.room = -1
}

// take records the reports of all masters, and returns what an operator must know of, once until it changes. Of
// several masters the worst counts: one that loses what it was given, then one that does not say.
func (s *seen) take(reports []report) (warnings []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, now := s.worst, report{room: -1, delayed: -1}
	grew, delayed := false, map[string]int64{}
	for _, r := range reports {
		if r.room >= 0 && (now.room < 0 || r.room < now.room) {
			now.room = r.room
		}
		now.policy = worse(now.policy, r.policy, safePolicy, unknown)
		now.appendonly = worse(now.appendonly, r.appendonly, "yes", unknown, "no")
		now.appendfsync = worse(now.appendfsync, r.appendfsync, "always", "everysec", unknown, "no")
		if r.delayed < 0 {
			continue
		}
		now.delayed = max(0, now.delayed) + r.delayed
		last, known := s.delayed[r.run]
		grew = grew || known && r.delayed > last
		delayed[r.run] = r.delayed
	}
	s.worst, s.delayed = now, delayed

	if now.policy == unknown && before.policy != unknown {
		warnings = append(warnings, "redis: maxmemory-policy is unknown, since Redis does not say: see to it that it is noeviction, else deliveries may be thrown away")
	}
	if w := changed("appendonly", before.appendonly, now.appendonly, "a restart of Redis loses what was answered since its last snapshot: set it to yes"); w != "" {
		warnings = append(warnings, w)
	}
	if w := changed("appendfsync", before.appendfsync, now.appendfsync, "a crash of Redis's machine loses what its kernel had not written yet: set it to everysec or always"); w != "" {
		warnings = append(warnings, w)
	}
	if grew && !s.growing {
		warnings = append(warnings, fmt.Sprintf("redis: aof_delayed_fsync has grown to %d: the disk is too slow for appendfsync everysec, "+
			"and what was answered in the last two seconds may be lost if Redis dies; use appendfsync always or durability replica", now.delayed))
	}
	s.growing = grew
	return warnings
}

// worse returns which of two values is the worse one. They are ordered best first; one that is not among them is the worst.
func worse(a, b string, ordered ...string) string {
	rank := func(v string) int {
		for i, o := range ordered {
			if v == o {
				return i
			}
		}
		return len(ordered)
	}
	if a == "" || rank(b) > rank(a) {
		return b
	}
	return a
}

// changed words that a setting which loses nothing answered unless it is no was found to be that, or was changed.
func changed(setting, before, now, remedy string) string {
	switch {
	case now == before || now == unknown, now != "no" && (before == "" || before == unknown):
		return ""
	case now != "no":
		return fmt.Sprintf("redis: %s was changed from %s to %s", setting, before, now)
	case before == "" || before == unknown:
		return fmt.Sprintf("redis: %s is no: %s", setting, remedy)
	}
	return fmt.Sprintf("redis: %s was changed from %s to no: %s", setting, before, remedy)
}
