package redisstore_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// A panic in a step of a loop is logged with its stack, shown, and over with the next good step.
func TestALoopSurvivesAPanic(t *testing.T) {
	for _, command := range []string{"smembers", "publish", "evalsha", "subscribe"} {
		t.Run(command, func(t *testing.T) {
			var log memory
			s := open(t, func(o *redisstore.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			awaitListeners(t, 1) // so that a panic meets it as it connects anew
			calm := s.PanicOn(command)
			step := func() {
				switch command {
				case "smembers":
					s.Refresh()
				case "publish":
					s.Tell("vocals", "one")
				case "evalsha":
					s.Announce(time.Now().String())
				case "subscribe":
					server.Do(t, "CLIENT", "KILL", "TYPE", "pubsub")
				}
			}
			redistest.Eventually(t, 10*time.Second, "health says it", func() bool {
				step()
				err := s.Health(t.Context())
				return err != nil && strings.Contains(err.Error(), "panic: on purpose")
			})
			for _, want := range []string{"panic in the Redis store", "on purpose", "goroutine ", "redisstore.(*Store)"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log does not say %q:\n%s", want, log.String())
				}
			}
			calm()
			redistest.Eventually(t, 20*time.Second, "it goes on", func() bool { step(); return s.Health(t.Context()) == nil })
		})
	}
}

// silent is a way to a Redis that lets a subscription hang as soon as it is to carry a command, so long as on holds.
func silent(t *testing.T, redis *redistest.Server, on *atomic.Bool, command string) string {
	t.Helper()
	return between(t, redis, func() func([]byte) bool {
		subscribed := false
		return func(line []byte) (pass bool) {
			subscribed = subscribed || isOneOf(line, "subscribe")
			return !on.Load() || !subscribed || !isOneOf(line, command)
		}
	}, false)
}

// forbidding is a way to a Redis that closes a connection as soon as it is asked for one of some commands, as twemproxy does.
func forbidding(t *testing.T, redis *redistest.Server, commands ...string) string {
	t.Helper()
	return between(t, redis, func() func([]byte) bool {
		return func(line []byte) (pass bool) { return !isOneOf(line, commands...) }
	}, true)
}

func isOneOf(line []byte, commands ...string) bool {
	return slices.ContainsFunc(commands, func(c string) bool { return bytes.EqualFold(bytes.TrimSpace(line), []byte(c)) })
}

// between is a way to a Redis. The first line of a connection that does not pass closes it, or leaves it open for nothing to
// pass any more.
func between(t *testing.T, redis *redistest.Server, passing func() func(line []byte) bool, closes bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = client.Close() }()
				to, err := net.Dial("tcp", redis.Addr)
				if err != nil {
					return
				}
				all.Go(func() {
					defer func() { _ = client.Close() }()
					_, _ = io.Copy(client, to)
				})
				defer func() { _ = to.Close() }()
				pass := passing()
				for r := bufio.NewReader(client); ; {
					line, err := r.ReadBytes('\n')
					if err != nil {
						return
					}
					if !pass(line) {
						if !closes {
							_, _ = io.Copy(io.Discard, r)
						}
						return
					}
					if _, err := to.Write(line); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// A subscription that is not confirmed, or falls silent, is begun anew, so that health does not say for ever what was wrong.
func TestASilentSubscriptionIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"subscribe", "ping"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			var on atomic.Bool
			on.Store(true)
			s := open(t, func(o *redisstore.Options) {
				o.Addresses, o.Timeout = []string{silent(t, server, &on, command)}, time.Second
			})
			redistest.Eventually(t, 20*time.Second, "health says it", func() bool {
				err := s.Health(t.Context())
				return err != nil && strings.Contains(err.Error(), "listening to channel")
			})
			on.Store(false)
			redistest.Eventually(t, 20*time.Second, "it is well again", func() bool { return s.Health(t.Context()) == nil })
		})
	}
}

// A subscription that begins anew at a Redis that hangs does not hold up the end of the store.
func TestTheEndWaitsForNoSubscription(t *testing.T) {
	var on atomic.Bool
	hangs := make(chan struct{}, 8)
	through := between(t, server, func() func([]byte) bool {
		return func(line []byte) (pass bool) {
			if !on.Load() || !isOneOf(line, "hello") {
				return true
			}
			hangs <- struct{}{}
			return false
		}
	}, false)
	const timeout = time.Second
	s := open(t, func(o *redisstore.Options) { o.Addresses, o.Timeout = []string{through}, timeout })
	awaitListeners(t, 1)
	on.Store(true)
	server.Do(t, "CLIENT", "KILL", "TYPE", "pubsub")
	<-hangs
	start := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*timeout {
		t.Errorf("it held up the end for %s", took)
	}
}

// Where something before Redis takes neither scripts nor subscriptions, health says so.
func TestHealthBehindAProxy(t *testing.T) {
	for name, commands := range map[string][]string{
		"accept: ": {"eval", "evalsha"},
		"listening to channel TestHealthBehindAProxy": {"subscribe"},
	} {
		s := open(t, func(o *redisstore.Options) { o.Addresses = []string{forbidding(t, server, commands...)} })
		redistest.Eventually(t, 10*time.Second, "health says why", func() bool {
			a := newAccept("one")
			s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
			s.Refresh()
			err := s.Health(t.Context())
			refused := commands[0] == "subscribe" || errors.Is(a.Err, relay.ErrUnavailable)
			return refused && err != nil && strings.Contains(err.Error(), "EOF") && (commands[0] != "subscribe" || strings.Contains(err.Error(), name))
		})
	}
}

// Status shows what Redis's persistence is set to, and a change is logged.
func TestPersistenceIsShown(t *testing.T) {
	redis := redistest.Start(t)
	var log memory
	s := open(t, func(o *redisstore.Options) {
		o.Addresses, o.Logger = []string{redis.Addr}, slog.New(slog.NewTextHandler(&log, nil))
	})
	look := func() relay.StoreInfo {
		t.Helper()
		if err := s.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s.Info()
	}
	if i := s.Info(); i.AppendOnly != "unknown" || i.AppendFsync != "unknown" || i.AOFDelayedFsync != nil {
		t.Errorf("before it was asked Redis has %+v", i)
	}
	if i := look(); i.AppendOnly != "yes" || i.AppendFsync != "everysec" || i.AOFDelayedFsync == nil || *i.AOFDelayedFsync != 0 {
		t.Errorf("Redis has %+v", i)
	}
	if strings.Contains(log.String(), "level=WARN") {
		t.Errorf("as it should be, it is logged:\n%s", log.String())
	}
	redis.Do(t, "CONFIG", "SET", "appendonly", "no")
	redis.Do(t, "CONFIG", "SET", "appendfsync", "always")
	for range 2 {
		if i := look(); i.AppendOnly != "no" || i.AppendFsync != "always" || i.AOFDelayedFsync != nil {
			t.Errorf("after the change Redis has %+v", i)
		}
	}
	for _, want := range []string{"appendonly was changed from yes to no", "appendfsync was changed from everysec to always"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", want, n, log.String())
		}
	}
	off := redistest.Start(t, "--appendonly", "no", "--rename-command", "CONFIG", "")
	var said memory
	s = open(t, func(o *redisstore.Options) {
		o.Addresses, o.Logger = []string{off.Addr}, slog.New(slog.NewTextHandler(&said, nil))
	})
	for range 2 {
		if i := look(); i.AppendOnly != "no" || i.AppendFsync != "unknown" {
			t.Errorf("without CONFIG Redis has %+v", i)
		}
	}
	if n := strings.Count(said.String(), "appendonly is no"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, said.String())
	}
}
