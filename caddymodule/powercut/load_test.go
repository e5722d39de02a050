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
	again    []int // to be sent again: nobody knows whether they were taken
	answered map[string]bool
}

func newLoad() *load { return &load{answered: map[string]bool{}} }

// send sends callbacks until as many more have been answered, or until the gateway is gone. What got no answer is sent
// again the next time, as senders do.
func (l *load) send(g *gateway, most int, sent func(answered int)) {
	var left atomic.Int64
	left.Store(int64(most))
	var count atomic.Int64
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			for left.Add(-1) >= 0 {
				n := l.take()
				id, err := g.post(client, "/callbacks", body(n))
				if err != nil {
					l.giveBack(n)
					return
				}
				l.mu.Lock()
				l.answered[id] = true
				l.mu.Unlock()
				if sent != nil {
					sent(int(count.Add(1)))
				}
			}
		})
	}
	all.Wait()
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

func (l *load) giveBack(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again = append(l.again, n)
}

// body is the nth callback. Most are small, as callbacks are; some take many pages of a database.
func body(n int) string {
	size := 300
	if n%20 == 0 {
		size = 40 << 10
	}
	return fmt.Sprintf(`{"code":200,"msg":"%s","data":{"callbackType":"complete","task_id":"task-%d"}}`, strings.Repeat("x", size), n)
}

// newConsumer returns the URL of a consumer with two sides: /good takes everything, and /moody refuses two deliveries of
// ten at first and another one for good.
func newConsumer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(time.Duration(rand.IntN(5)) * time.Millisecond)
		task := r.Header.Get("Relay-Task-Id")
		switch digit := task[len(task)-1]; {
		case r.URL.Path == "/good":
		case (digit == '3' || digit == '8') && r.Header.Get("Relay-Attempt") == "1":
			w.WriteHeader(http.StatusInternalServerError)
		case digit == '7':
			w.WriteHeader(http.StatusGone)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}
