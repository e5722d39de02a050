package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// request holds a request that a consumer got, and its answer.
type request struct {
	arrived, answered time.Time // answered is zero while it is not
	header            http.Header
	body              string
	status            int
}

// event and attempt identify a request.
func (r request) event() string   { return r.header.Get("Webhook-Id") }
func (r request) attempt() string { return r.header.Get("Relay-Attempt") }

// consumer is a destination that keeps what it gets. Its address stays the same while it is down.
type consumer struct {
	t       *testing.T
	address string
	// location, if set before the first request, is where an answer says to go.
	location string

	mu     sync.Mutex
	server *httptest.Server // nil while it is down
	got    []*request
	answer func(r *request, gone <-chan struct{}) int
}

// newConsumer starts a consumer that answers 200.
func newConsumer(t *testing.T) *consumer {
	t.Helper()
	c := newDownConsumer(t)
	c.up()
	return c
}

// newDownConsumer makes a consumer that refuses connections.
func newDownConsumer(t *testing.T) *consumer {
	t.Helper()
	c := &consumer{t: t, address: freeAddress(t)}
	c.answers(http.StatusOK)
	t.Cleanup(c.down)
	return c
}

// URL returns where the consumer wants its callbacks.
func (c *consumer) URL() string { return "http://" + c.address + "/callbacks" }

func (c *consumer) up() {
	c.t.Helper()
	listener, err := servers.Listen(c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: c}}
	server.Start()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = server
}

func (c *consumer) down() {
	c.mu.Lock()
	server := c.server
	c.server = nil
	c.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

// answers sets the status of every answer.
func (c *consumer) answers(status int) {
	c.answersBy(func(*request, <-chan struct{}) int { return status })
}

// answersBy sets what decides on answers. gone is closed when the gateway no longer waits.
func (c *consumer) answersBy(answer func(r *request, gone <-chan struct{}) int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

// hangs answers nothing until the gateway gives up.
func hangs(_ *request, gone <-chan struct{}) int {
	<-gone
	return http.StatusOK
}

func (c *consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway was killed
	}
	got := &request{arrived: time.Now(), header: r.Header.Clone(), body: string(body)}
	got.header.Set("Host", r.Host)
	c.mu.Lock()
	c.got = append(c.got, got)
	answer := c.answer
	c.mu.Unlock()

	status := answer(got, r.Context().Done())
	if c.location != "" {
		w.Header().Set("Location", c.location)
	}
	w.WriteHeader(status)
	_ = http.NewResponseController(w).Flush()

	c.mu.Lock()
	defer c.mu.Unlock()
	got.status, got.answered = status, time.Now()
}

// requests are those so far, in the order of their arrival.
func (c *consumer) requests() []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]request, len(c.got))
	for i, r := range c.got {
		all[i] = *r
	}
	return all
}

func (c *consumer) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// waitFor waits until n requests have come, and gives them.
func (c *consumer) waitFor(n int) []request {
	c.t.Helper()
	eventually(c.t, patience, "the requests arrive at the consumer", func() bool { return c.count() >= n })
	return c.requests()
}

// freeAddress returns an address that nobody listens on, and never one twice.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := servers.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
