package engine_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// A log that takes no line stops nobody: neither a source beside a destination that fails, nor its own.
func TestAStalledLog(t *testing.T) {
	reader, writer := io.Pipe() // nobody reads
	defer func() { _ = reader.Close() }()
	refuses := newConsumer(t, func(int, *http.Request) int { return http.StatusInternalServerError })
	healthy := newConsumer(t, nil)
	bad := destination(t, "bad", refuses.URL)
	bad.Retry, bad.Breaker = retries(time.Millisecond, time.Millisecond), relay.BreakerPolicy{}
	g := newGateway(t, bad, destination(t, "good", healthy.URL))
	settings := g.settings()
	settings.Logger = slog.New(slog.NewTextHandler(writer, nil))
	g.source.Logger = settings.Logger
	g.Push(settings)

	const callbacks = 300
	slowest := time.Duration(0)
	for n := range callbacks {
		start := time.Now()
		g.mustAccept(fmt.Sprintf("task-%d", n))
		if w := g.send(callbackOf(`{"no":"task"}`)); w.Code != http.StatusBadRequest {
			t.Fatalf("a rejection was answered %d", w.Code)
		}
		slowest = max(slowest, time.Since(start))
	}
	for range callbacks {
		healthy.next(t)
	}
	t.Logf("slowest answer: %v", slowest)
	if slowest > 2*time.Second {
		t.Errorf("an answer took %v", slowest)
	}
}

// A callback that comes while the store is being opened waits for it.
func TestACallbackWaitsForTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	release := make(chan struct{})
	e := engine.New(engine.Options{OpenStore: func(ctx context.Context, logger *slog.Logger) (relay.Store, error) {
		<-release
		return openSQLite(path)(ctx, logger)
	}})
	g := &gateway{Engine: e, t: t, source: newSource()}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	var codes [2]int
	var wg sync.WaitGroup
	wg.Go(func() { codes[0] = g.send(callback("before the start")).Code })
	wg.Go(func() {
		if err := g.Start(t.Context()); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { codes[1] = g.send(callback("during-the-start")).Code })
	close(release)
	wg.Wait()
	// The task id of the first holds spaces, which no wait may hide.
	if codes != [2]int{http.StatusBadRequest, http.StatusOK} {
		t.Errorf("answered %v", codes)
	}
}

// forgetful is a store that does what it is asked for and, while it is to, says that it failed.
type forgetful struct {
	relay.SharedStore
	forget *atomic.Bool
}

func (f forgetful) Apply(ctx context.Context, b *relay.Batch) {
	f.SharedStore.Apply(ctx, b)
	for _, a := range b.Accepts {
		if f.forget.Load() {
			a.Leased, a.Err = nil, relay.ErrUnavailable
		}
	}
}

// A callback that the store took while its answer was lost is delivered once the spool has handed it over, and not only
// when the lease that it carried ends.
func TestALeaseWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := newConsumer(t, nil)
	var forget atomic.Bool
	g := &gateway{t: t, source: newSource(destination(t, "billing", c.URL))}
	g.Engine = engine.New(engine.Options{
		OpenStore: func(ctx context.Context, logger *slog.Logger) (relay.Store, error) {
			s, err := redisstore.Open(ctx, redisstore.Options{Addresses: []string{redis.Addr}, Logger: logger})
			return forgetful{s, &forget}, err
		},
		OpenSpool: func(ctx context.Context, _ *slog.Logger) (relay.Spool, error) {
			return spool.Open(ctx, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
		},
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	g.Push(g.settings())
	g.mustAccept("first") // the lane knows by now that nothing waits
	c.next(t)

	forget.Store(true)
	id := g.mustAccept("doubtful")
	start := time.Now()
	forget.Store(false)
	if got := c.next(t); got.header.Get("Webhook-Id") != id {
		t.Errorf("delivered %s, not %s", got.header.Get("Webhook-Id"), id)
	}
	if waited := time.Since(start); waited > 15*time.Second {
		t.Errorf("it took %v", waited)
	}
	g.awaitState(id, "billing", relay.StateDelivered)
	if n := c.count(); n != 2 {
		t.Errorf("%d requests for two events", n)
	}
}

// A store that opens its file anew leases again what is in flight. The second attempt waits for the end of the first.
func TestAttemptsDoNotOverlap(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "relay.db")
	first, arrived := make(chan struct{}), make(chan struct{})
	var came, underWay, overlaps atomic.Int32
	c := newConsumer(t, func(_ int, r *http.Request) int {
		if r.Header.Get("Relay-Task-Id") != "slow" {
			return http.StatusOK
		}
		if underWay.Add(1) > 1 {
			overlaps.Add(1)
		}
		defer underWay.Add(-1)
		if came.Add(1) == 1 {
			close(arrived)
			<-first
		}
		return http.StatusOK
	})
	g := startGateway(t, path, openSQLite(path), newSource(destination(t, "billing", c.URL)))
	id := g.mustAccept("slow")
	<-arrived
	if err := os.Remove(path + "-wal"); err != nil {
		t.Fatal(err)
	}
	g.await("the file is opened anew", func() bool {
		_, err := os.Stat(path + "-wal")
		return err == nil && g.send(callback("quick")).Code == http.StatusOK
	})
	// A lane that resumes asks the store for all that is due.
	for _, paused := range []bool{true, false} {
		if err := g.Pause(t.Context(), g.source.Name, "billing", paused); err != nil {
			t.Fatal(err)
		}
	}
	g.awaitState(g.mustAccept("another"), "billing", relay.StateDelivered)
	close(first)
	g.awaitState(id, "billing", relay.StateDelivered)
	if overlaps.Load() > 0 {
		t.Error("two attempts of a delivery overlap")
	}
}
