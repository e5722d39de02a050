package integration

import (
	"context"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// redisServer is a Redis of the test's own. Its process comes and goes.
type redisServer struct {
	t *testing.T
	*servers.Redis
}

// newRedis starts a Redis that syncs its append-only file every second.
func newRedis(t *testing.T) *redisServer {
	t.Helper()
	redis, err := servers.NewRedis(t.TempDir(), "--appendfsync", "everysec")
	if err != nil {
		t.Fatal(err)
	}
	r := &redisServer{t, redis}
	r.start()
	t.Cleanup(r.Kill)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	if err := r.Start(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *redisServer) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// do sends a command that must be answered OK, or by a text.
func (r *redisServer) do(command string) string {
	r.t.Helper()
	reply, err := r.Do(command)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply
}

var calls = regexp.MustCompile(`(?m)^cmdstat_(\S+):calls=(\d+)`)

// commands counts the commands that Redis has run, by name.
func (r *redisServer) commands() map[string]int {
	r.t.Helper()
	counts := map[string]int{}
	for _, m := range calls.FindAllStringSubmatch(r.do("INFO commandstats"), -1) {
		counts[m[1]], _ = strconv.Atoi(m[2])
	}
	return counts
}

func (r *redisServer) gateway(t *testing.T) *gateway {
	t.Helper()
	return newGateway(t, "store redis "+r.Address)
}

// redisSite has leases as short as they can be: what a killed gateway held is taken over soon.
func redisSite(c *consumer) string {
	return `relay /vocals vocals {
		to consumer ` + c.URL() + ` {
			timeout 1s
			breaker off
		}
	}`
}

// seconds is how long a test goes on; the variable sets it for a long run.
func seconds(t *testing.T, variable string, byDefault int) time.Duration {
	t.Helper()
	n := byDefault
	if text := os.Getenv(variable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return time.Duration(n) * time.Second
}

// redisLoad sends callbacks to several gateways, each twentieth to two of them at once. A sender insists until it has its
// answer, as the provider does.
type redisLoad struct {
	t        *testing.T
	prefix   string // of its tasks
	gateways []*gateway
	cancel   context.CancelFunc
	working  sync.WaitGroup

	mu      sync.Mutex
	events  map[string]map[string]bool // ids, by task
	pairs   int
	answers int
	other   map[int]int // answers that are not 200, by status
	away    int         // no answer at all
	slowest time.Duration
}

func startRedisLoad(t *testing.T, prefix string, perSecond int, gateways ...*gateway) *redisLoad {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &redisLoad{t: t, prefix: prefix, gateways: gateways, cancel: cancel, events: map[string]map[string]bool{}, other: map[int]int{}}
	t.Cleanup(l.stop)
	body := callback(t, "{task}")
	l.working.Go(func() {
		pace(ctx, prefix, perSecond, func(n int, task string) {
			text := strings.Replace(body, "{task}", task, 1)
			l.working.Go(func() { l.send(ctx, n, task, text) })
			if n%20 == 0 {
				l.mu.Lock()
				l.pairs++
				l.mu.Unlock()
				l.working.Go(func() { l.send(ctx, n+1, task, text) })
			}
		})
	})
	return l
}

func (l *redisLoad) send(ctx context.Context, n int, task, body string) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ; ; n++ {
		begun := time.Now()
		a, err := l.gateways[n%len(l.gateways)].try("/vocals", body)
		took := time.Since(begun)
		l.mu.Lock()
		switch {
		case err != nil:
			l.away++
		case a.status == http.StatusOK:
			l.answers++
			l.slowest = max(l.slowest, took)
			if l.events[task] == nil {
				l.events[task] = map[string]bool{}
			}
			l.events[task][a.eventID()] = true
		default:
			l.other[a.status]++
			l.slowest = max(l.slowest, took)
		}
		l.mu.Unlock()
		if err == nil && a.status == http.StatusOK {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *redisLoad) stop() {
	l.cancel()
	l.working.Wait()
}

// wait lets the load go on for a while.
func (l *redisLoad) wait(d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	<-end.C
}

// end stops the load, and checks that all that was answered is delivered, each task as one event. A node whose Redis was
// away may have told the event's id to one sender before Redis made it a duplicate: such ids name the same event.
func (l *redisLoad) end(c *consumer, within time.Duration) {
	l.t.Helper()
	l.stop()
	delivered := map[string]map[string]bool{} // ids, by task
	eventually(l.t, within, "everything is delivered", func() bool {
		clear(delivered)
		for _, r := range c.requests() {
			task := r.header.Get("Relay-Task-Id")
			if !strings.HasPrefix(task, l.prefix) {
				continue
			}
			if delivered[task] == nil {
				delivered[task] = map[string]bool{}
			}
			delivered[task][r.event()] = true
		}
		return len(delivered) >= len(l.events)
	})
	for _, g := range l.gateways {
		eventually(l.t, within, "spools are empty", func() bool {
			s := g.status().Spool
			return s != nil && s.Up && s.Events+s.Stuck == 0
		})
	}
	lost, split, told := 0, 0, 0
	for task, ids := range l.events {
		if len(delivered[task]) == 0 {
			lost++
		}
		if len(ids) > 1 {
			told++
		}
	}
	for _, ids := range delivered {
		if len(ids) > 1 {
			split++
		}
	}
	l.t.Logf("%d callbacks answered 200 for %d tasks (%d sent twice, %d told two ids), slowest %s; other answers %v, %d without an answer; %d requests at the consumer",
		l.answers, len(l.events), l.pairs, told, l.slowest.Round(time.Millisecond), l.other, l.away, c.count())
	if lost > 0 || split > 0 {
		l.t.Errorf("%d tasks answered and never delivered, %d tasks became several events", lost, split)
	}
}

// refusedNone checks that every callback was answered 200 in time.
func (l *redisLoad) refusedNone() {
	l.t.Helper()
	if len(l.other) > 0 || l.away > 0 || l.slowest > 10*time.Second {
		l.t.Errorf("answers other than 200: %v, none at all: %d, slowest %s", l.other, l.away, l.slowest)
	}
}

// TestRedis follows a callback through a gateway to the consumer; another gateway knows its duplicate, and obeys the pause.
func TestRedis(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	a, b, c := r.gateway(t), r.gateway(t), newConsumer(t)
	a.start(redisSite(c))
	b.start(redisSite(c))

	body := callback(t, "one")
	id := a.accept("/vocals", body)
	if got := c.waitFor(1)[0]; got.event() != id || got.body != body {
		t.Errorf("delivered %s: %s", got.event(), got.body)
	}
	for _, g := range []*gateway{a, b} {
		if again := g.post("/vocals", body); again.status != http.StatusOK || again.eventID() != id || again.header.Get("Relay-Duplicate") != "true" {
			t.Errorf("the duplicate's answer is %+v", again)
		}
	}
	eventually(t, patience, "the event is settled on both", func() bool {
		return a.event(id).State == "delivered" && b.event(id).State == "delivered"
	})
	eventually(t, patience, "the gateways know each other", func() bool { return len(a.status().Nodes) == 2 && len(b.status().Nodes) == 2 })
	if s := b.status(); s.Store.Driver != "redis" || !s.Store.Up || s.Spool == nil || !s.Spool.Up {
		t.Errorf("the status is %+v", s)
	}

	a.do("/relay/destinations/vocals/consumer/pause", nil)
	eventually(t, patience, "the pause is known", func() bool { return b.destination("consumer").Paused })
	paused := b.accept("/vocals", callback(t, "paused"))
	never(t, 500*time.Millisecond, "a paused destination gets a callback", func() bool { return c.count() > 1 })
	b.do("/relay/destinations/vocals/consumer/resume", nil)
	if got := c.waitFor(2)[1]; got.event() != paused {
		t.Errorf("another event came: %s", got.event())
	}
}

// TestRedisKill kills two gateways on one Redis in turn, under load: what was answered is delivered, and a callback that
// reached both at once is one event. RELAY_REDIS_SECONDS and RELAY_REDIS_RATE are for the long run.
func TestRedisKill(t *testing.T) {
	r := newRedis(t)
	rate := int(seconds(t, "RELAY_REDIS_RATE", 300) / time.Second)
	gateways := []*gateway{r.gateway(t), r.gateway(t)}
	c := newConsumer(t)
	for _, g := range gateways {
		g.start(redisSite(c))
	}
	l := startRedisLoad(t, "kill", rate, gateways...)
	end := time.Now().Add(seconds(t, "RELAY_REDIS_SECONDS", 15))
	kills := 0
	for ; time.Now().Before(end); kills++ {
		l.wait(2 * time.Second)
		g := gateways[kills%2]
		g.kill()
		l.wait(200 * time.Millisecond)
		g.start(redisSite(c))
		l.wait(800 * time.Millisecond)
	}
	l.end(c, 3*patience)
	t.Logf("%d kills", kills)
}

// TestRedisTrouble harms Redis in every way under load: each callback is answered 200 in time, from the spool, and
// delivered in the end. RELAY_REDIS_OUTAGE sets for how many seconds Redis hangs.
func TestRedisTrouble(t *testing.T) {
	r := newRedis(t)
	g, c := r.gateway(t), newConsumer(t)
	g.start(redisSite(c))
	outage := seconds(t, "RELAY_REDIS_OUTAGE", 4)
	for _, trouble := range []struct {
		name       string
		begin, end func()
	}{
		{"hangs", func() { r.signal(syscall.SIGSTOP) }, func() { r.signal(syscall.SIGCONT) }},
		{"killed", r.Kill, r.start},
		{"full", func() { r.do("CONFIG SET maxmemory 1mb") }, func() { r.do("CONFIG SET maxmemory 0") }},
	} {
		t.Run(trouble.name, func(t *testing.T) {
			before := len(c.requests())
			l := startRedisLoad(t, trouble.name, 100, g)
			l.wait(time.Second)
			trouble.begin()
			spooled := 0
			for until := time.Now().Add(outage); time.Now().Before(until); {
				l.wait(250 * time.Millisecond)
				spooled = max(spooled, g.status().Spool.Events)
			}
			trouble.end()
			l.wait(2 * time.Second)
			l.end(c, 3*patience)
			l.refusedNone()
			t.Logf("%d requests, at most %d callbacks in the spool", c.count()-before, spooled)
			if spooled == 0 {
				t.Error("the spool took nothing")
			}
		})
	}
}

// TestRedisIdle counts what a gateway asks of Redis while nothing happens.
func TestRedisIdle(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	g, c := r.gateway(t), newConsumer(t)
	g.start(redisSite(c))
	g.accept("/vocals", callback(t, "first"))
	eventually(t, patience, "everything is settled", g.settled)
	before := r.commands()
	const watched = 8 * time.Second
	pause := time.NewTimer(watched)
	defer pause.Stop()
	<-pause.C
	total := 0
	during := r.commands()
	maps.DeleteFunc(during, func(name string, n int) bool {
		during[name] = n - before[name]
		total += n - before[name]
		return n == before[name]
	})
	rate := float64(total) / watched.Seconds()
	t.Logf("an idle gateway sends %.1f commands per second: %v in %s", rate, during, watched)
	if rate > 50 {
		t.Errorf("%.1f commands per second are too many", rate)
	}
}
