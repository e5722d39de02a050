package engine_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// newRedisGateway starts an engine on a Redis that answers, however late on a busy machine.
func newRedisGateway(t *testing.T, redis *redistest.Server, src *relay.Source) *gateway {
	t.Helper()
	return newSharedGateway(t, redisstore.Options{Addresses: []string{redis.Addr}, Timeout: patience}, src)
}

// newHastyGateway starts an engine whose callbacks are spooled as soon as a Redis is late by a second.
func newHastyGateway(t *testing.T, redis *redistest.Server, src *relay.Source) *gateway {
	t.Helper()
	return newSharedGateway(t, redisstore.Options{Addresses: []string{redis.Addr}}, src)
}

// newSharedGateway starts an engine on the Redis, of whatever topology, that options say, with a spool of its own.
func newSharedGateway(t *testing.T, o redisstore.Options, src *relay.Source) *gateway {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	o.Timeout, o.Logger = cmp.Or(o.Timeout, time.Second), logger
	path := filepath.Join(t.TempDir(), "spool.db")
	g := &gateway{t: t, source: src, path: path, metrics: meter.New()}
	g.Engine = engine.New(engine.Options{
		Metrics: g.metrics,
		OpenStore: func(ctx context.Context, _ *slog.Logger) (relay.Store, error) {
			return redisstore.Open(ctx, o)
		},
		OpenSpool: func(ctx context.Context, _ *slog.Logger) (relay.Spool, error) {
			return spool.Open(ctx, spool.Options{Path: path})
		},
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	g.Push(g.settings())
	return g
}

// load sends callbacks through gateways, a hundred a second, until it is told to stop.
type load struct {
	t        *testing.T
	stop     chan struct{}
	wg       sync.WaitGroup
	mu       sync.Mutex
	answered map[string]bool // tasks
	slowest  time.Duration
	refused  int
}

func newLoad(t *testing.T, gateways ...*gateway) *load {
	l := &load{t: t, stop: make(chan struct{}), answered: map[string]bool{}}
	l.wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			task := fmt.Sprintf("load-%06d", n)
			l.wg.Go(func() { l.send(gateways[n%len(gateways)], task) })
			if n%20 == 0 { // a sender that calls twice
				l.wg.Go(func() { l.send(gateways[(n+1)%len(gateways)], task) })
			}
		}
	})
	return l
}

func (l *load) send(g *gateway, task string) {
	start := time.Now()
	w := g.send(callback(task))
	took := time.Since(start)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, took)
	if w.Code == http.StatusOK {
		l.answered[task] = true
	} else {
		l.refused++
	}
}

// end stops the load and checks that every callback was answered in time and delivered.
func (l *load) end(c *consumer, gateways ...*gateway) {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.t.Logf("%d callbacks, slowest answer %v, refused %d", len(l.answered), l.slowest, l.refused)
	if l.refused > 0 {
		l.t.Errorf("%d callbacks were refused", l.refused)
	}
	if l.slowest > relay.DefaultAckWithin {
		l.t.Errorf("the slowest answer took %v", l.slowest)
	}
	const within = time.Minute
	var missing int
	redistest.Eventually(l.t, within, "every callback is delivered", func() bool {
		missing = len(l.answered) - len(c.tasks())
		return missing == 0
	})
	for _, g := range gateways {
		redistest.Eventually(l.t, within, "the spool is empty", func() bool { return g.Status(context.Background()).Spool.Events == 0 })
	}
	events := map[string]string{} // task to event
	for _, r := range c.all() {
		task, id := gjson.Get(r.body, "data.task_id").Str, r.header.Get("Webhook-Id")
		if before, ok := events[task]; ok && before != id {
			l.t.Errorf("task %s became two events", task)
		}
		events[task] = id
	}
}

func (c *consumer) all() []received {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]received(nil), c.got...)
}

func (c *consumer) tasks() map[string]bool {
	tasks := map[string]bool{}
	for _, r := range c.all() {
		tasks[gjson.Get(r.body, "data.task_id").Str] = true
	}
	return tasks
}

// during waits until some more callbacks have been answered.
func (l *load) during(n int) {
	l.t.Helper()
	l.mu.Lock()
	from := len(l.answered) + l.refused
	l.mu.Unlock()
	redistest.Eventually(l.t, time.Minute, "callbacks are answered", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.answered)+l.refused >= from+n
	})
}

// newShortSource has a destination whose leases are as short as they can be.
func newShortSource(t *testing.T, c *consumer) *relay.Source {
	d := destination(t, "billing", c.URL)
	d.Timeout = time.Second
	return newSource(d)
}

func TestRedisKilledUnderLoad(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--appendfsync", "always")
	c := newConsumer(t, nil)
	g := newHastyGateway(t, redis, newShortSource(t, c))
	l := newLoad(t, g)
	l.during(100)
	redis.Kill()
	l.during(200)
	redis.Restart(t)
	l.during(200)
	l.end(c, g)
}

func TestRedisLosesEverything(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := newConsumer(t, nil)
	g := newHastyGateway(t, redis, newShortSource(t, c))
	g.mustAccept("before")
	c.next(t)
	redis.Kill()
	redis.Wipe(t)
	l := newLoad(t, g)
	l.during(100)
	redis.Restart(t)
	l.during(100)
	close(l.stop)
	l.wg.Wait()
	redistest.Eventually(t, time.Minute, "every callback is delivered", func() bool { return len(c.tasks()) == len(l.answered)+1 })
}

func TestRedisHangsUnderLoad(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := newConsumer(t, nil)
	g := newHastyGateway(t, redis, newShortSource(t, c))
	l := newLoad(t, g)
	l.during(100)
	redis.Suspend(t)
	l.during(500)
	redis.Resume(t)
	l.during(100)
	l.end(c, g)
}

func TestRedisIsFullUnderLoad(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := newConsumer(t, nil)
	g := newHastyGateway(t, redis, newShortSource(t, c))
	l := newLoad(t, g)
	l.during(100)
	redis.Do(t, "CONFIG", "SET", "maxmemory", "1mb")
	l.during(200)
	redistest.Eventually(t, 10*time.Second, "the spool takes callbacks", func() bool { return g.Status(context.Background()).Spool.Events > 0 })
	redis.Do(t, "CONFIG", "SET", "maxmemory", "0")
	l.during(100)
	l.end(c, g)
}

func TestTwoGatewaysOnOneRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := newConsumer(t, nil)
	a := newHastyGateway(t, redis, newShortSource(t, c))
	b := newHastyGateway(t, redis, newShortSource(t, c))
	l := newLoad(t, a, b)
	l.during(300)
	l.end(c, a, b)

	// A pause holds on the other node too, and so does its end.
	if err := a.Pause(t.Context(), "vocals", "billing", true); err != nil {
		t.Fatal(err)
	}
	id := b.mustAccept("paused")
	if err := a.Pause(t.Context(), "vocals", "billing", false); err != nil {
		t.Fatal(err)
	}
	b.awaitState(id, "billing", relay.StateDelivered)
}

// Two gateways that get conflicting callbacks at once make one event of each.
func TestConflictsOfTwoGateways(t *testing.T) {
	t.Parallel()
	c := newConsumer(t, nil)
	redis := redistest.Start(t)
	var gateways []*gateway
	for range 2 {
		src := newSource(destination(t, "billing", c.URL))
		src.DeliverConflicts = true
		gateways = append(gateways, newRedisGateway(t, redis, src))
	}
	const bodies, times = 3, 8
	var senders sync.WaitGroup
	var mu sync.Mutex
	events := map[int]map[string]bool{}
	for n := range bodies * times {
		kind := n % bodies
		body := strings.Replace(callbackText("one"), "v.mp3", fmt.Sprintf("v%d.mp3", kind), 1)
		senders.Go(func() {
			w := gateways[n/bodies%2].send(callbackOf(body))
			if w.Code != http.StatusOK {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			if events[kind] == nil {
				events[kind] = map[string]bool{}
			}
			events[kind][w.Header().Get("Relay-Event-Id")] = true
		})
	}
	senders.Wait()
	first := map[string]bool{}
	for range bodies {
		r := c.next(t)
		first[cmp.Or(r.header.Get("Relay-Conflict-With"), r.header.Get("Webhook-Id"))] = true
	}
	for kind, ids := range events {
		if len(ids) != 1 {
			t.Errorf("body %d is of the events %v", kind, ids)
		}
	}
	if len(first) != 1 || c.count() != bodies {
		t.Errorf("%d deliveries, of the first events %v", c.count(), first)
	}
}

// Another gateway may deliver what is orphaned for this one: it is neither deleted nor handed over while their configs differ.
func TestOrphansOfAnotherConfig(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := newConsumer(t, func(int, *http.Request) int { return http.StatusGone })
	old, kept := destination(t, "old", c.URL), destination(t, "kept", c.URL)
	a := newRedisGateway(t, redis, newSource(old, kept))
	if err := a.Pause(t.Context(), "vocals", "old", true); err != nil {
		t.Fatal(err)
	}
	id := a.mustAccept("task-1")
	a.awaitState(id, "kept", relay.StateDead)
	b := newRedisGateway(t, redis, newSource(kept))
	b.await("the delivery shows as orphaned", func() bool {
		for _, d := range b.Status(t.Context()).Destinations {
			if d.Name == "old" {
				return d.Counts.Orphaned == 1
			}
		}
		return false
	})

	orphaned := relay.Selection{Source: "vocals", Orphaned: true}
	if n, err := b.Discard(t.Context(), orphaned); n != 0 || !errors.Is(err, engine.ErrDrift) {
		t.Errorf("discarded %d, error %v", n, err)
	}
	if r, err := b.Reassign(t.Context(), "vocals", "old", "kept"); r != (relay.Reassigned{}) || !errors.Is(err, engine.ErrDrift) {
		t.Errorf("reassigned %+v, error %v", r, err)
	}
	if got := a.delivery(id, "old").State; got != relay.StatePending {
		t.Errorf("the delivery is %s", got)
	}
	if got := a.delivery(id, "kept").State; got != relay.StateDead {
		t.Errorf("the dead letter is %s", got)
	}
	if n, err := b.Discard(t.Context(), relay.Selection{Source: "vocals"}); n != 1 || err != nil {
		t.Errorf("discarded %d dead letters, error %v", n, err)
	}

	// One config on both, and then one gateway alone.
	a.push(kept)
	reassigning := func() error {
		_, err := b.Reassign(t.Context(), "vocals", "nobody", "kept")
		return err
	}
	b.await("the configs agree", func() bool { return errors.Is(reassigning(), relay.ErrNotFound) })
	a.push(old)
	b.await("the configs differ", func() bool { return errors.Is(reassigning(), engine.ErrDrift) })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Discard(t.Context(), orphaned); n != 1 || err != nil {
		t.Errorf("discarded %d, error %v", n, err)
	}
}

// What nobody has counted yet is no zero: else dead letters of yesterday would look new once Redis is back.
func TestNoGaugesOfAnUnreadRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	src := newSource(destination(t, "a", newConsumer(t, gone).URL))
	first := newHastyGateway(t, redis, src)
	first.awaitState(first.mustAccept("task-1"), "a", relay.StateDead)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	redis.Kill()
	g := newHastyGateway(t, redis, src)
	names := []string{"caddy_relay_deliveries", "caddy_relay_oldest_pending_seconds", "caddy_relay_destination_paused", "caddy_relay_lease_expired_total"}
	for _, name := range names {
		if unread := values(t, g.metrics, name); len(unread) > 0 {
			t.Errorf("%s is %v, and nobody knows", name, unread)
		}
	}
	if up := values(t, g.metrics, "caddy_relay_store_up")[""]; up != 0 {
		t.Errorf("the store is up: %v", up)
	}
	redis.Restart(t)
	for _, name := range names {
		g.await(name+" is there", func() bool { return len(values(t, g.metrics, name)) > 0 })
	}
}
