package redisstore

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// The suite moves the store's clock by hours. So tests add to Redis's time what stands under <prefix>:{<source>}:skew, and
// let a source's clock follow it at once, where a test has moved it. The key is written before each script, since a
// source may be new.
func init() {
	change := strings.NewReplacer(
		"redis.call('TIME')", "skewed()",
		"120e6", "longest",
	)
	skew := `local longest = 12e7
local function skewed()
  local t = redis.call('TIME')
  local skew = redis.call('GET', (string.gsub(META, 'head$', 'skew')))
  if type(skew) == 'string' then
    longest = 1e15
  end
  local us = t[1] * 1e6 + t[2] + (type(skew) == 'string' and tonumber(skew) or 0)
  local at = type(skew) == 'string' and string.match(skew, '^at (%d+)$')
  if at then
    us = at + redis.call('INCRBY', META .. '.tick', 100)
  end
  return { math.floor(us / 1e6), us % 1e6 }
end
`
	for _, s := range []*script{
		acceptScript, settleScript, leaseScript, replayScript, replayAllScript, redriveScript, reassignScript, discardScript,
		expireScript, purgeScript, forgetScript, pauseScript, watchScript,
		taskAcceptScript, taskExpectScript, taskLeaseScript, taskTurnScript, taskSettleScript, taskPurgeScript,
	} {
		text := strings.Replace(s.text, "local now, run, seq\n", "local now, run, seq\n"+strings.ReplaceAll(skew, "'TIME'", "'TI' .. 'ME'"), 1)
		*s = *newScript(s.name, change.Replace(text))
	}
}

// skews holds how tests have moved the clock, by key prefix.
var skews sync.Map

// skew is how far the clock was moved, and where it has stood still since, if it does.
type skew struct {
	by time.Duration
	at time.Time
}

func (k skew) String() string {
	if k.at.IsZero() {
		return strconv.FormatInt(k.by.Microseconds(), 10)
	}
	return "at " + strconv.FormatInt(k.at.Add(k.by).UnixMicro(), 10)
}

func (s *Store) skew() skew {
	k, _ := skews.LoadOrStore(s.options.KeyPrefix, skew{})
	return k.(skew)
}

// Advance moves the clock of all stores with this one's prefix.
func (s *Store) Advance(d time.Duration) {
	k := s.skew()
	k.by += d
	skews.Store(s.options.KeyPrefix, k)
}

// Freeze lets the clock of all stores with this one's prefix stand still but for Advance, and for a moment that each script
// takes: however slow the machine is, a model knows what time it is.
func (s *Store) Freeze() {
	k := s.skew()
	k.at = time.Now()
	skews.Store(s.options.KeyPrefix, k)
}

// FollowSkew lets the store's scripts see the clock that Advance has moved.
func (s *Store) FollowSkew() { s.client.AddHook(skewHook{s.options.KeyPrefix}) }

type skewHook struct{ prefix string }

func (skewHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (skewHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h skewHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		k, moved := skews.Load(h.prefix)
		if !moved {
			return next(ctx, cmds)
		}
		var sets []redis.Cmder
		for _, c := range cmds {
			args := c.Args()
			if len(args) < 4 {
				continue
			}
			if key, _ := args[3].(string); strings.HasSuffix(key, "}:head") {
				sets = append(sets, redis.NewStatusCmd(ctx, "set", strings.TrimSuffix(key, "head")+"skew", k.(skew).String()))
			}
		}
		err := next(ctx, slices.Concat(sets, cmds))
		for _, c := range sets {
			err = errors.Join(err, c.Err())
		}
		return err
	}
}

// Forgetful lets the store keep no event that it has stored, so that each lease reads what it leases.
func (s *Store) Forgetful() {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	s.recent.young.bytes, s.recent.since = recentBytes+1, time.Now().Add(24*time.Hour)
}

// Refresh counts anew.
func (s *Store) Refresh() { s.watch(context.Background()) }

// Quiet ends the loops, so that Redis hears from the store only what the test asks of it.
func (s *Store) Quiet() {
	s.close()
	s.loops.Wait()
}

// Tell lets the other gateways know that something of a destination may be due.
func (s *Store) Tell(source, destination string) {
	s.tell(relay.DestinationName{Source: source, Destination: destination})
}

// After calls f each time that a command has been answered.
func (s *Store) After(command string, f func()) { s.client.AddHook(&afterHook{command, f}) }

type afterHook struct {
	command string
	f       func()
}

func (h *afterHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *afterHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == h.command {
			h.f()
		}
		return err
	}
}

func (h *afterHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == h.command }) {
			h.f()
		}
		return err
	}
}

// PanicOn lets the client panic where it is to send a command, until the function it returns is called.
func (s *Store) PanicOn(command string) (calm func()) {
	h := &panicHook{command: command}
	h.on.Store(true)
	s.client.AddHook(h)
	return func() { h.on.Store(false) }
}

type panicHook struct {
	command string
	on      atomic.Bool
}

func (h *panicHook) check(cmds ...redis.Cmder) {
	for _, c := range cmds {
		if h.on.Load() && c.Name() == h.command {
			panic("on purpose")
		}
	}
}

func (h *panicHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		// A subscription is sent past the other hooks; what else dials may be a goroutine of go-redis.
		if h.on.Load() && h.command == "subscribe" && bytes.Contains(debug.Stack(), []byte("(*PubSub)")) {
			panic("on purpose")
		}
		return next(ctx, network, address)
	}
}

func (h *panicHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.check(cmd)
		return next(ctx, cmd)
	}
}

func (h *panicHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.check(cmds...)
		return next(ctx, cmds)
	}
}

// MetaKeys returns the key of each partition of a source that every script touches.
func (s *Store) MetaKeys(source string) (names []string) {
	for _, h := range s.shards(source) {
		names = append(names, h.block(0)[0])
	}
	return names
}
