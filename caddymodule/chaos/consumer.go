package chaos

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
	"github.com/callbackrelay/caddy-relay/internal/dnstest"
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
	silent   mood = "silent"    // never reads again from the connections that are open, and answers 200 on others
	moving   mood = "moving"    // the same, and listens at another address from now on, which its name has
)

// consumer is one destination's server, which speaks HTTP/1.1, and HTTP/2 without TLS. Its port stays the same, and its
// address too until it moves.
type consumer struct {
	name   string
	port   uint16
	names  *dnstest.Server
	ledger *ledger

	mu       sync.Mutex
	mood     mood
	moves    int            // how often it has moved
	listener *wires         // nil while it is away
	servers  []*http.Server // of the addresses where it has been since it was away
	served   sync.WaitGroup
	recent   []*request // the last that were recorded
}

func newConsumer(name string, names *dnstest.Server, l *ledger) (*consumer, error) {
	address, err := servers.FreeAddress()
	if err != nil {
		return nil, err
	}
	free, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	c := &consumer{name: name, port: free.Port(), names: names, ledger: l}
	return c, c.be(fine)
}

// host returns the name that leads to the consumer, for those who ask its name server.
func (c *consumer) host() string { return c.name + ".consumers.test" }

// protocol returns the line of a transport that speaks HTTP/2, for one of the consumers.
func (c *consumer) protocol() string {
	if c.name == "ordered" {
		return "\t\t\t\tversions h2c 2\n"
	}
	return ""
}

// be changes the mood.
func (c *consumer) be(m mood) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mood = m
	switch {
	case m == away:
		c.leave()
		return nil
	case c.listener == nil:
		return c.listen()
	case m == silent:
		c.listener.silence()
		c.ledger.silenced(c.recent)
	case m == moving:
		c.listener.silence()
		_ = c.listener.Close()
		c.ledger.silenced(c.recent)
		c.moves++
		return c.listen()
	}
	return nil
}

// listen listens at the address that the consumer has now. The caller holds mu.
func (c *consumer) listen() error {
	const addresses = 8
	address := netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + c.moves%addresses)})
	listener, err := servers.Listen(netip.AddrPortFrom(address, c.port).String())
	if err != nil {
		return err
	}
	c.names.Set(c.host(), address)
	server := &http.Server{Handler: c, ReadHeaderTimeout: patience, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	own := newWires(listener)
	c.listener, c.servers = own, append(c.servers, server)
	c.served.Go(func() { _ = server.Serve(own) })
	return nil
}

// leave closes the listener and all connections. The caller holds mu.
func (c *consumer) leave() {
	for _, server := range c.servers {
		_ = server.Close()
	}
	c.listener, c.servers = nil, nil
	c.ledger.cutOff(c.recent)
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
	c.ledger.came(r.Proto)
	entry := c.enter(r.Header, body)
	switch m {
	case fine, away, silent, moving:
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

// answer sends a status. It is recorded first: the gateway may act on it at once. That it may not have arrived is recorded
// too: the consumer may have closed its connections since it got the request.
func (c *consumer) answer(w http.ResponseWriter, entry *request, status int) {
	c.ledger.end(entry, status, false)
	w.WriteHeader(status)
	c.ledger.sent(entry, http.NewResponseController(w).Flush())
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
		panic(http.ErrAbortHandler) // HTTP/2, of which the stream is reset
	}
	defer conn.Close()
	over, ok := conn.(*wire)
	if !ok {
		return
	}
	tcp, ok := over.Conn.(*net.TCPConn)
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
