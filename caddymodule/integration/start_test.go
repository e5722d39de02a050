package integration

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestStart kills and starts a gateway with a backlog again and again, while senders call from before it listens: whoever
// gets through gets 200, from the first moment on.
func TestStart(t *testing.T) {
	t.Parallel()
	const starts, senders = 10, 4
	g := newGateway(t)
	away, healthy := newDownConsumer(t), newConsumer(t)
	site := `relay /backlog backlog {
		to away ` + away.URL() + `
	}
	relay /vocals vocals {
		to healthy ` + healthy.URL() + `
	}`
	g.start(site)
	g.storm("/backlog", callbacks(t, "backlog", 2000), http.StatusOK)
	g.kill()

	ids, slowest := map[string]bool{}, time.Duration(0)
	for n := range starts {
		bodies := callbacks(t, string(rune('a'+n)), 50*senders)
		var mu sync.Mutex
		var sending sync.WaitGroup
		stop := make(chan struct{})
		for s := range senders {
			sending.Go(func() {
				for i := s; i < len(bodies); {
					select {
					case <-stop:
						return
					default:
					}
					sent := time.Now()
					a, err := g.try("/vocals", bodies[i])
					if err != nil {
						continue // it does not listen yet
					}
					if a.status != http.StatusOK {
						t.Errorf("at start %d callback %d gets %d %s", n+1, i, a.status, a.body)
					}
					mu.Lock()
					ids[a.eventID()] = true
					slowest = max(slowest, time.Since(sent))
					mu.Unlock()
					i += senders
				}
			})
		}
		t.Cleanup(sync.OnceFunc(func() { close(stop) }))
		g.start(site)
		sending.Wait()
		g.kill()
	}
	if len(ids) != starts*50*senders {
		t.Errorf("%d events of %d callbacks", len(ids), starts*50*senders)
	}
	g.start(site)
	eventually(t, patience, "every callback is delivered", func() bool {
		delivered := map[string]bool{}
		for _, r := range healthy.requests() {
			delivered[r.event()] = true
		}
		return len(delivered) == len(ids)
	})
	t.Logf("%d callbacks answered in %d starts; the slowest answer took %s", len(ids), starts, slowest)
}
