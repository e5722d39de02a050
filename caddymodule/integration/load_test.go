package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fixture reads one of the provider's callbacks.
func fixture(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "..", "relay", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// sampleTask is the task of the sample callback.
const sampleTask = "5e72d367bdfbe44785e28d72cb1697c7"

// callback is the sample callback for another task.
func callback(t *testing.T, task string) string {
	t.Helper()
	return strings.Replace(fixture(t, "callback-separate-vocal.json"), sampleTask, task, 1)
}

// load is a sender of callbacks with distinct tasks, at a steady rate.
type load struct {
	stop func()

	mu       sync.Mutex
	answered map[string]time.Time // when the 200 came, by event id
	failed   int                  // tries that were not answered by 200
}

// startLoad begins to send. insist sends a callback again until it is answered by 200, as a provider would.
func (g *gateway) startLoad(path, prefix string, perSecond int, insist bool) *load {
	g.t.Helper()
	const senders = 32
	body := callback(g.t, "{task}")
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{answered: map[string]time.Time{}}
	tasks := make(chan string, senders)
	var working sync.WaitGroup
	l.stop = func() {
		cancel()
		working.Wait()
	}
	g.t.Cleanup(l.stop)

	working.Go(func() {
		defer close(tasks)
		pace(ctx, prefix, perSecond, func(_ int, task string) {
			select {
			case tasks <- task:
			case <-ctx.Done():
			}
		})
	})
	for range senders {
		working.Go(func() {
			for task := range tasks {
				for !l.send(g, path, strings.Replace(body, "{task}", task, 1)) && insist && ctx.Err() == nil {
				}
			}
		})
	}
	return l
}

// pace calls send with one task after the other, so many a second, until ctx ends.
func pace(ctx context.Context, prefix string, perSecond int, send func(n int, task string)) {
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ticker.C:
			send(n, fmt.Sprintf("%s-%06d", prefix, n))
		case <-ctx.Done():
			return
		}
	}
}

// send is true if the callback was answered by 200.
func (l *load) send(g *gateway, path, body string) bool {
	a, err := g.try(path, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || a.status != http.StatusOK {
		l.failed++
		return false
	}
	l.answered[a.eventID()] = time.Now()
	return true
}

// count is how many callbacks were answered so far.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answered)
}

// reach waits until n more callbacks have been answered.
func (l *load) reach(t *testing.T, n int) {
	t.Helper()
	n += l.count()
	eventually(t, patience, "callbacks are answered", func() bool { return l.count() >= n })
}
