package chaos

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// mood is how a consumer behaves.
type mood string

const (
	fine     mood = "fine"      // answers 200
	failing  mood = "failing"   // answers 500
	busy     mood = "busy"      // answers 429, and asks to come back in a second
	slow     mood = "slow"      // answers 200 after a while
	hanging  mood = "hanging"   // answers nothing until the gateway gives up
	reset    mood = "reset"     // resets the connection instead of an answer
	halfShut mood = "half shut" // closes its half of the connection instead of an answer
	endless  mood = "endless"   // answers 200 with a body that does not end
	gone     mood = "gone"      // answers 410, which is final
	away     mood = "away"      // listens to nobody
)

// consumer is one destination's server. Its address stays the same while it is away.
type consumer struct {
	name    string
	address string
	ledger  *ledger

	mu     sync.Mutex
	mood   mood
	server *http.Server // nil while it is away
	served sync.WaitGroup
	recent []*request // the last that were recorded
}

func newConsumer(name string, l *ledger) (*consumer, error) {
	address, err := servers.FreeAddress()
	if err != nil {
		return nil, err
	}
	c := &consumer{name: name, address: address, ledger: l}
	return c, c.be(fine)
}

// be changes the mood.
func (c *consumer) be(m mood) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mood = m
	if m == away {
		c.leave()
		return nil
	}
	if c.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", c.address)
	if err != nil {
		return err
	}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: patience}
	server := c.server
	c.served.Go(func() { _ = server.Serve(listener) })
	return nil
}

// leave closes the listener and all connections.
func (c *consumer) leave() {
	if c.server != nil {
		_ = c.server.Close()
		c.server = nil
		c.ledger.cutOff(c.recent)
	}
}

// close ends the consumer.
func (c *consumer) close() {
	_ = c.be(away)
	c.served.Wait()
}

func (c *consumer) now() mood {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mood
}

// ServeHTTP records the request in the ledger, and answers as the mood is.
func (c *consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway was killed, or gave up
	}
	m := c.now()
	entry := c.enter(r.Header, body)
	switch m {
	case fine, away:
		c.answer(w, entry, http.StatusOK)
	case failing:
		c.answer(w, entry, http.StatusInternalServerError)
	case gone:
		c.answer(w, entry, http.StatusGone)
	case busy:
		w.Header().Set("Retry-After", "1")
		c.answer(w, entry, http.StatusTooManyRequests)
	case slow:
		wait(r.Context(), time.Duration(20+rand.IntN(600))*time.Millisecond)
		if r.Context().Err() != nil {
			c.ledger.end(entry, 0, true)
			return
		}
		c.answer(w, entry, http.StatusOK)
	case hanging:
		<-r.Context().Done()
		c.ledger.end(entry, 0, false)
	case endless:
		c.answer(w, entry, http.StatusOK)
		c.goOn(r.Context(), w)
	case reset, halfShut:
		c.cut(w, entry, m)
	}
}

// enter records a request in the ledger, and checks that its body is the callback's.
func (c *consumer) enter(header http.Header, body []byte) *request {
	number := func(name string) int {
		n, _ := strconv.Atoi(header.Get(name))
		return n
	}
	var said struct {
		Data struct {
			TaskID string `json:"task_id"`
			Type   string `json:"callbackType"`
		} `json:"data"`
	}
	_ = json.Unmarshal(body, &said)
	sent := callback{source: header.Get("Relay-Source"), task: said.Data.TaskID, stage: said.Data.Type}
	if header.Get("Relay-Task-Id") != sent.task || sent.source != tasksSource && string(body) != sent.body() {
		c.ledger.violates("altered", "%s got, of task %s: %s", c.name, header.Get("Relay-Task-Id"), body)
	}
	entry := c.ledger.arrive(delivery{header.Get("Webhook-Id"), c.name}, sent, number("Relay-Attempt"), number("Relay-Replay"))
	const kept = 64
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recent = append(c.recent, entry); len(c.recent) > 2*kept {
		c.recent = append(c.recent[:0], c.recent[kept:]...)
	}
	return entry
}

// answer sends a status. It is recorded first: the gateway may act on it at once.
func (c *consumer) answer(w http.ResponseWriter, entry *request, status int) {
	c.ledger.end(entry, status, false)
	w.WriteHeader(status)
	_ = http.NewResponseController(w).Flush()
}

// goOn writes until nobody reads.
func (c *consumer) goOn(ctx context.Context, w http.ResponseWriter) {
	chunk := make([]byte, 4<<10)
	for ctx.Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		wait(ctx, 10*time.Millisecond)
	}
}

// cut ends a connection before an answer.
func (c *consumer) cut(w http.ResponseWriter, entry *request, m mood) {
	conn, _, err := http.NewResponseController(w).Hijack()
	c.ledger.end(entry, 0, true)
	if err != nil {
		return
	}
	defer conn.Close()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if m == reset {
		_ = tcp.SetLinger(0)
		return
	}
	_ = tcp.CloseWrite()
	_ = tcp.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, tcp)
}
