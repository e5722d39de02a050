package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// grant makes the user of the gateways, or gives it back what it has lost.
func grant(t testing.TB, redis *redistest.Server) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "gateway", "reset", "on", ">secret"}
	for right := range strings.FieldsSeq(rights) {
		args = append(args, right)
	}
	redis.Do(t, args...)
}

// awaitHealth waits until the store is well, as it is by itself some seconds after Redis was mended.
func awaitHealth(t *testing.T, s *redisstore.Store) {
	t.Helper()
	var ill error
	defer func() {
		if ill != nil {
			t.Log(ill)
		}
	}()
	redistest.Eventually(t, 30*time.Second, "the store is well again", func() bool { ill = s.Health(t.Context()); return ill == nil })
}

func asGateway(redis *redistest.Server) func(*redisstore.Options) {
	return func(o *redisstore.Options) {
		o.Addresses, o.KeyPrefix, o.Username, o.Password = []string{redis.Addr}, "relay", "gateway", "secret"
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// load accepts events one after the other, each until it is stored, as the spool does.
type load struct {
	mu       sync.Mutex
	accepted []*relay.Accept
	reasons  map[string]int // why not
	wrong    []error        // none of an outage
	stop     chan struct{}
	done     sync.WaitGroup
}

func startLoad(s *redisstore.Store) *load {
	l := &load{stop: make(chan struct{}), reasons: map[string]int{}}
	l.done.Go(func() {
		for {
			a := newAccept("one")
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				s.Apply(context.Background(), &relay.Batch{Accepts: []*relay.Accept{a}})
				l.mu.Lock()
				switch {
				case a.Err == nil:
					l.accepted = append(l.accepted, a)
				case !errors.Is(a.Err, relay.ErrUnavailable) || strings.Contains(a.Err.Error(), "<nil>"):
					l.wrong = append(l.wrong, a.Err)
				default:
					l.reasons[a.Err.Error()]++
				}
				l.mu.Unlock()
				if a.Err == nil {
					break
				}
			}
		}
	})
	return l
}

func (l *load) end() {
	close(l.stop)
	l.done.Wait()
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

func (l *load) failed(reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range l.reasons {
		if strings.Contains(text, reason) {
			return true
		}
	}
	return false
}

// Redis that refuses the gateway is an outage like any other, under load too: with its reason, and over once it is mended.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	set := func(args ...any) func() {
		return func() { redis.Do(t, append([]any{"ACL", "SETUSER", "gateway"}, args...)...) }
	}
	kill := func() { redis.Do(t, "CLIENT", "KILL", "USER", "gateway") }
	mend := func() { grant(t, redis) }
	client := redis.Client(t)
	admin := func(args ...any) {
		if err := client.Do(t.Context(), args...).Err(); err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		name        string
		fault, mend func()
		reason      string
	}{
		{"another password", func() { set("resetpass", ">other")(); kill() }, mend, "WRONGPASS"},
		{"user switched off", func() { set("off")(); kill() }, mend, "WRONGPASS"},
		{"user deleted", func() { redis.Do(t, "ACL", "DELUSER", "gateway") }, mend, "WRONGPASS"},
		{"restarted without the user", func() { redis.Kill(); redis.Restart(t) }, mend, "WRONGPASS"},
		{"no right to run scripts", set("-evalsha", "-eval"), mend, "NOPERM"},
		{"no right to a script's command", set("-hset"), mend, "can't run this command"},
		{"no right to its keys", set("resetkeys", "~other:*"), mend, "NOPERM"},
		{"no right to anything", set("-@all"), mend, "NOPERM"},
		{"no more clients", func() { admin("CONFIG", "SET", "maxclients", "1"); admin("CLIENT", "KILL", "USER", "gateway") }, func() { admin("CONFIG", "SET", "maxclients", "1000") }, "max number of clients"},
		{"a replica", func() { redis.Do(t, "REPLICAOF", "127.0.0.1", "1") }, func() { redis.Do(t, "REPLICAOF", "NO", "ONE") }, "READONLY"},
		{"no room", func() { redis.Do(t, "CONFIG", "SET", "maxmemory", "1") }, func() { redis.Do(t, "CONFIG", "SET", "maxmemory", "0") }, "OOM"},
	} {
		t.Run(test.name, func(t *testing.T) {
			redis.Do(t, "FLUSHALL") // of this test's own server
			grant(t, redis)
			s := open(t, asGateway(redis))
			l := startLoad(s)
			redistest.Eventually(t, 10*time.Second, "events are accepted", func() bool { return l.count() > 20 })
			test.fault()
			redistest.Eventually(t, 10*time.Second, "the reason is told", func() bool { return l.failed(test.reason) })
			test.mend()
			again := l.count() + 20
			redistest.Eventually(t, 20*time.Second, "events are accepted again", func() bool { return l.count() > again })
			l.end()
			for _, err := range l.wrong {
				t.Errorf("accept gave %v", err)
			}
			awaitHealth(t, s)
			seen := map[string]bool{}
			redistest.Eventually(t, 20*time.Second, "all are leased", func() bool {
				for _, d := range lease(t, s, "one", 500).Leased {
					seen[d.Event.ID] = true
				}
				return len(seen) >= len(l.accepted)
			})
			for _, a := range l.accepted {
				if !seen[a.Event.ID] {
					t.Errorf("event %s is lost", a.Event.ID)
				}
			}
		})
	}
}

// Every call on a Redis that refuses the gateway ends in the reason, as one of an outage.
func TestEveryCallIsRefused(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	grant(t, redis)
	s := open(t, asGateway(redis))
	a, b := newAccept("one"), newAccept("one")
	accept(t, s, a, b)
	held := lease(t, s, "one", 1).Leased[0]
	for _, test := range []struct {
		fault  []any
		reason string
	}{
		{[]any{"resetpass", ">other"}, "WRONGPASS"},
		{[]any{"reset", "on", ">secret", "~relay:*", "&relay:wake", "+@connection"}, "NOPERM"},
		{[]any{"reset", "on", ">secret", "+@all", "~other:*", "&other:*"}, "permissions"},
	} {
		redis.Do(t, append([]any{"ACL", "SETUSER", "gateway"}, test.fault...)...)
		redis.Do(t, "CLIENT", "KILL", "USER", "gateway")
		if strings.Contains(fmt.Sprint(test.fault), "other") {
			// Connections that were killed are found out by use.
			redistest.Eventually(t, 5*time.Second, "new connections are refused", func() bool {
				return strings.Contains(fmt.Sprint(s.Pause(t.Context(), "vocals", "one", false)), test.reason)
			})
		}
		ctx, all := t.Context(), relay.Selection{Source: "vocals"}
		c, op := newAccept("one"), &relay.Settle{Leased: held, Outcome: relay.OutcomeDelivered}
		l := &relay.Lease{Source: "vocals", Destination: "one", Max: 1, For: time.Minute}
		s.Apply(ctx, &relay.Batch{Settles: []*relay.Settle{op}, Accepts: []*relay.Accept{c}, Leases: []*relay.Lease{l}})
		errs := map[string]error{"settle": op.Err, "accept": c.Err, "lease": l.Err}
		_, _, errs["events"] = s.Events(ctx, relay.EventFilter{Source: "vocals"})
		_, _, errs["all events"] = s.Events(ctx, relay.EventFilter{})
		_, errs["event"] = s.Event(ctx, a.Event.ID)
		_, _, errs["dead letters"] = s.DeadLetters(ctx, all, 10, "")
		_, _, errs["replay"] = s.Replay(ctx, a.Event.ID, []string{"one"}, 0)
		_, _, errs["redrive"] = s.Redrive(ctx, all, relay.Pace{}, "")
		_, _, errs["discard"] = s.Discard(ctx, all, "")
		errs["pause"] = s.Pause(ctx, "vocals", "one", true)
		_, errs["expire"] = s.Expire(ctx, "vocals", "one", 0)
		_, errs["purge"] = s.Purge(ctx, relay.PurgePolicy{DefaultWindow: time.Hour})
		s.Refresh()
		errs["health"] = s.Health(ctx)
		for call, err := range errs {
			if !errors.Is(err, relay.ErrUnavailable) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("%v: %s gave %v", test.fault, call, err)
			}
		}
		grant(t, redis)
		awaitHealth(t, s)
	}
	if err := settle(t, s, held, relay.OutcomeDelivered); err != nil {
		t.Errorf("settle after it all: %v", err)
	}
}

// A gateway that is configured without the password that Redis wants goes on once none is wanted, or once it has been given
// the password.
func TestNoPassword(t *testing.T) {
	const secret = "secret"
	for name, mend := range map[string]func(wanted func(password string), given *atomic.Value){
		"none is wanted": func(wanted func(string), _ *atomic.Value) { wanted("") },
		"it is given":    func(_ func(string), given *atomic.Value) { given.Store(secret) },
	} {
		t.Run(name, func(t *testing.T) {
			redis := redistest.Start(t)
			var given atomic.Value
			given.Store("")
			s := open(t, func(o *redisstore.Options) {
				o.Addresses, o.Credentials = []string{redis.Addr}, func() (string, string) { return "", given.Load().(string) }
			})
			accept(t, s, newAccept("one"))
			admin := redis.Client(t)
			wanted := func(password string) {
				t.Helper()
				if err := admin.Do(t.Context(), "CONFIG", "SET", "requirepass", password).Err(); err != nil {
					t.Fatal(err)
				}
			}
			wanted(secret)
			if err := admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
				t.Fatal(err)
			}
			a := newAccept("one")
			redistest.Eventually(t, 10*time.Second, "the reason is told", func() bool {
				s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
				return errors.Is(a.Err, relay.ErrUnavailable) && strings.Contains(a.Err.Error(), "NOAUTH")
			})
			if err := s.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
				t.Errorf("health is %v", err)
			}
			mend(wanted, &given)
			redistest.Eventually(t, 10*time.Second, "it accepts again", func() bool {
				s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
				return a.Err == nil
			})
			redistest.Eventually(t, 10*time.Second, "it is healthy", func() bool { return s.Health(t.Context()) == nil })
		})
	}
}

// Nothing is delivered of an accept that was refused in its midst, when the user had lost the right to one of its commands.
func TestAnAcceptThatIsCutShort(t *testing.T) {
	redis := redistest.Start(t)
	grant(t, redis)
	s := open(t, asGateway(redis))
	accept(t, s, newAccept("one"))
	lease(t, s, "one", 5)
	for _, command := range []string{"hset", "mset", "zadd"} {
		redis.Do(t, "ACL", "SETUSER", "gateway", "-"+command)
		a := newAccept("one")
		if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}}); !errors.Is(a.Err, relay.ErrUnavailable) {
			t.Errorf("without %s: %v", command, a.Err)
		}
		grant(t, redis)
		if l := lease(t, s, "one", 5); len(l.Leased) > 0 || len(l.Dead) > 0 {
			t.Errorf("without %s: %d deliveries are leased and %d given up", command, len(l.Leased), len(l.Dead))
		}
	}
}

// Without the channel, deliveries go on and health says why other gateways hear late; it listens again once it may.
func TestRefusedChannel(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	grant(t, redis)
	s, other := open(t, asGateway(redis)), open(t, asGateway(redis))
	listens := func() bool {
		subs, err := redis.Client(t).PubSubNumSub(t.Context(), "relay:wake").Result()
		return err == nil && subs["relay:wake"] == 2
	}
	redistest.Eventually(t, 10*time.Second, "both listen", listens)
	for _, fault := range []string{"resetchannels", "-subscribe", "-publish"} {
		redis.Do(t, "ACL", "SETUSER", "gateway", fault)
		redis.Do(t, "CLIENT", "KILL", "USER", "gateway")
		redistest.Eventually(t, 20*time.Second, "health says why", func() bool {
			s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{newAccept("one")}})
			err := s.Health(t.Context())
			return err != nil && strings.Contains(err.Error(), "channel relay:wake") && strings.Contains(err.Error(), "NOPERM")
		})
		accept(t, s, newAccept("one"))
		grant(t, redis)
		redistest.Eventually(t, 20*time.Second, "both listen again", listens)
		awaitHealth(t, s)
		awaitHealth(t, other)
		accept(t, s, newAccept("one"))
		awaitWake(t, other, relay.DestinationName{Source: "vocals", Destination: "one"})
	}
}

// Wrong credentials are told by the names of the store's options, and with the server's.
func TestCredentialsAreNamed(t *testing.T) {
	redis := redistest.Start(t, "--requirepass", "right-one")
	for _, test := range []struct{ username, password, want string }{
		{"", "wrong-one", "check username and password of the store"},
		{"gateway", "right-one", "check username and password of the store"},
		{"", "", "set password in the store"},
	} {
		var log memory
		s := open(t, func(o *redisstore.Options) {
			o.Addresses, o.Username, o.Password = []string{redis.Addr}, test.username, test.password
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		err := s.Health(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "-one") {
			t.Errorf("%q: health is %v", test.want, err)
		}
		if text := log.String(); !strings.Contains(text, redis.Addr) || !strings.Contains(text, test.want) {
			t.Errorf("%q: the log says\n%s", test.want, text)
		}
	}
}

// Credentials that change reach the connections that are open, which are kept otherwise.
func TestCredentialsChange(t *testing.T) {
	redis, overTLS := startTLS(t)
	for name, change := range map[string]func(*redisstore.Options){
		"plain": func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} },
		"tls":   overTLS,
	} {
		t.Run(name, func(t *testing.T) {
			for _, user := range []string{"a", "b"} {
				redis.Do(t, "ACL", "SETUSER", user, "reset", "on", ">secret", "~*", "&*", "+@all")
			}
			opened := func(user string) int {
				list, _ := redis.Do(t, "CLIENT", "LIST", "TYPE", "normal").(string)
				return strings.Count(list, " user="+user+" ")
			}
			var user atomic.Value
			user.Store("a")
			s := open(t, change, func(o *redisstore.Options) {
				o.Credentials = func() (string, string) { return user.Load().(string), "secret" }
			})
			s.Quiet()
			for range 20 {
				accept(t, s, newAccept("one"))
			}
			before := opened("a")
			accept(t, s, newAccept("one"))
			if n := opened("a"); n != before || n == 0 {
				t.Errorf("%d connections became %d without a change", before, n)
			}
			user.Store("b")
			redis.Do(t, "ACL", "SETUSER", "a", "-@all")
			var all sync.WaitGroup
			for range 8 { // more than there are connections of the former user
				all.Go(func() {
					a := newAccept("one")
					if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}}); a.Err != nil {
						t.Errorf("accept gave %v", a.Err)
					}
				})
			}
			all.Wait()
			if err := s.Health(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
