package powercut

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// senders is how many callbacks are sent at the same time.
const senders = 8

// load is a sender's share of a test: callbacks, and who got which answer.
type load struct {
	mu       sync.Mutex
	next     int
	again    []int          // to be sent again: nobody knows whether they were taken
	answered map[string]int // the callback, by the id of its event
	body     func(n int) string
}

func newLoad() *load { return &load{answered: map[string]int{}, body: body} }

// send sends callbacks until as many more have been answered, or until the gateway is gone. What got no answer is sent
// again the next time, as senders do.
func (l *load) send(g *gateway, most int, sent func(answered int)) {
	var left, count atomic.Int64
	left.Store(int64(most))
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			for left.Add(-1) >= 0 && l.sendOne(g, client) {
				if n := count.Add(1); sent != nil {
					sent(int(n))
				}
			}
		})
	}
	all.Wait()
}

// sendOne sends one callback, and reports whether it was answered.
func (l *load) sendOne(g *gateway, client *http.Client) bool {
	n := l.take()
	id, err := g.post(client, "/callbacks", l.body(n))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.again = append(l.again, n)
		return false
	}
	l.answered[id] = n
	return true
}

func (l *load) take() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.again) > 0 {
		n, l.again = l.again[0], l.again[1:]
		return n
	}
	l.next++
	return l.next
}

// body returns the body of the nth callback. Most are small, as callbacks are; some take many pages of a database.
func body(n int) string {
	size := 300
	if n%20 == 0 {
		size = 40 << 10
	}
	return fmt.Sprintf(`{"code":200,"data":{"callbackType":"complete","task_id":"%s"},"msg":"%s"}`, task(n), strings.Repeat("x", size))
}

func task(n int) string { return fmt.Sprint("task-", n) }

// consumer has two sides: /good takes everything, and /moody refuses two deliveries of ten at first and another one for
// good.
type consumer struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string]bool // tasks that /good has got
}

func newConsumer(t *testing.T) *consumer {
	t.Helper()
	c := &consumer{got: map[string]bool{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	<-time.After(time.Duration(rand.IntN(5)) * time.Millisecond)
	task := r.Header.Get("Relay-Task-Id")
	if r.URL.Path == "/good" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got[task] = true
		return
	}
	switch digit := task[len(task)-1]; {
	case (digit == '3' || digit == '8') && r.Header.Get("Relay-Attempt") == "1":
		w.WriteHeader(http.StatusInternalServerError)
	case digit == '7':
		w.WriteHeader(http.StatusGone)
	}
}

// has returns how many tasks have come.
func (c *consumer) has() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}
