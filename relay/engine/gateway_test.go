package engine_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// patience is how long a test waits for what must happen; it is never waited out by a test that passes.
const patience = time.Minute

// gateway is an engine on a store of its own, with one source that a test may shape.
type gateway struct {
	*engine.Engine
	t      testing.TB
	source *relay.Source
	path   string
	// metrics are those of this engine alone.
	metrics *meter.Metrics
}

// newGateway starts an engine with the source `vocals` and the given destinations.
func newGateway(t testing.TB, destinations ...*relay.Destination) *gateway {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.db")
	return startGateway(t, path, openSQLite(path), newSource(destinations...))
}

func openSQLite(path string) func(context.Context, *slog.Logger) (relay.Store, error) {
	return func(ctx context.Context, _ *slog.Logger) (relay.Store, error) {
		return sqlitestore.Open(ctx, sqlitestore.Options{Path: path, MinFree: 1, Logger: slog.New(slog.DiscardHandler)})
	}
}

func startGateway(t testing.TB, path string, open func(context.Context, *slog.Logger) (relay.Store, error), src *relay.Source) *gateway {
	t.Helper()
	g := &gateway{t: t, source: src, path: path, metrics: meter.New()}
	g.Engine = engine.New(engine.Options{OpenStore: open, Logger: slog.New(slog.DiscardHandler), Version: "test", Metrics: g.metrics})
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

func (g *gateway) settings() *relay.Settings {
	return &relay.Settings{
		Sources:   map[string]*relay.Source{g.source.Name: g.source},
		Retention: relay.DefaultRetention, DeadLetterRetention: relay.DefaultDeadLetterRetention, Drain: 2 * time.Second,
	}
}

func newSource(destinations ...*relay.Destination) *relay.Source {
	return &relay.Source{
		Name: "vocals", Provider: provider.Suno(),
		Dedupe:       []relay.DedupeField{{Kind: relay.DedupeTaskID}, {Kind: relay.DedupeStage}, {Kind: relay.DedupeCode}},
		DedupeWindow: relay.DefaultDedupeWindow, MaxBody: relay.DefaultMaxBody, AckWithin: relay.DefaultAckWithin,
		Response:     relay.Response{Status: 200, Body: relay.DefaultResponse, ContentType: "application/json"},
		Destinations: destinations, Logger: slog.New(slog.DiscardHandler),
	}
}

// callback is a request as the provider sends it.
func callback(task string) *http.Request {
	return callbackOf(callbackText(task))
}

func callbackText(task string) string {
	return fmt.Sprintf(`{"code":200,"msg":"ok","data":{"task_id":%q,"vocal_removal_info":{"vocal_url":"https://f.example/v.mp3"}}}`, task)
}

func callbackOf(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/callback", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return r
}

// send passes a request to the gateway.
func (g *gateway) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	g.Receive(w, r, g.source, netip.MustParseAddr("203.0.113.7"))
	return w
}

// mustAccept sends a callback of a task and returns its event's id.
func (g *gateway) mustAccept(task string) string {
	g.t.Helper()
	id := g.accept(task)
	if id == "" {
		g.t.FailNow()
	}
	return id
}

// accept is mustAccept for goroutines other than the test's: after a failure it returns "".
func (g *gateway) accept(task string) string {
	g.t.Helper()
	w := g.send(callback(task))
	if w.Code != http.StatusOK || w.Header().Get("Relay-Event-Id") == "" {
		g.t.Errorf("callback of %s was answered %d %s", task, w.Code, w.Body)
		return ""
	}
	return w.Header().Get("Relay-Event-Id")
}

// await waits until ok holds.
func (g *gateway) await(what string, ok func() bool) {
	g.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			g.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// delivery returns the delivery of an event to a destination.
func (g *gateway) delivery(id, destination string) relay.DeliveryRecord {
	g.t.Helper()
	rec, err := g.Event(context.Background(), id)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, d := range rec.Deliveries {
		if d.Destination == destination {
			return d
		}
	}
	g.t.Fatalf("event %s has no delivery to %s", id, destination)
	panic("unreachable")
}

func (g *gateway) awaitState(id, destination string, want relay.State) relay.DeliveryRecord {
	g.t.Helper()
	var d relay.DeliveryRecord
	g.await(fmt.Sprintf("the delivery to %s is %s", destination, want), func() bool {
		d = g.delivery(id, destination)
		return d.State == want
	})
	return d
}

// consumer is a downstream webhook that keeps what it gets.
type consumer struct {
	*httptest.Server
	mu         sync.Mutex
	status     func(n int, r *http.Request) int // of the n-th request, counted from 1; nil: 200
	retryAfter string                           // told with every answer, if set before the first request
	got        []received
	notify     chan received
}

type received struct {
	header http.Header
	body   string
	at     time.Time
}

func newConsumer(t *testing.T, status func(n int, r *http.Request) int) *consumer {
	t.Helper()
	c := &consumer{status: status, notify: make(chan received, 10000)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		rec := received{r.Header.Clone(), string(body), time.Now()}
		c.mu.Lock()
		c.got = append(c.got, rec)
		n := len(c.got)
		c.mu.Unlock()
		code := http.StatusOK
		if c.status != nil {
			code = c.status(n, r)
		}
		if c.retryAfter != "" {
			w.Header().Set("Retry-After", c.retryAfter)
		}
		w.WriteHeader(code)
		c.notify <- rec
	}))
	t.Cleanup(c.Close)
	return c
}

// next waits for the next request that was answered.
func (c *consumer) next(t *testing.T) received {
	t.Helper()
	select {
	case r := <-c.notify:
		return r
	case <-time.After(patience):
		t.Fatal("waited in vain for a delivery")
		panic("unreachable")
	}
}

func (c *consumer) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// destination is a destination with the product's defaults.
func destination(t testing.TB, name, to string) *relay.Destination {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &relay.Destination{
		Name: name, URL: u, Timeout: relay.DefaultTimeout, Retry: relay.DefaultRetry, Permanent: []int{http.StatusGone},
		MaxInFlight: relay.DefaultMaxInFlight, Expire: relay.DefaultExpire, Transport: transport,
		Breaker: relay.BreakerPolicy{Failures: relay.DefaultBreakerFailures, Probe: relay.DefaultProbeInterval},
	}
}

func retries(delays ...time.Duration) relay.RetryPolicy { return relay.RetryPolicy{Delays: delays} }
