package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// TestConsumerDown: while a consumer refuses connections its deliveries wait, however often it is probed.
func TestConsumerDown(t *testing.T) {
	t.Parallel()
	for _, waiting := range []int{1, 100} {
		t.Run(fmt.Sprint(waiting), func(t *testing.T) {
			t.Parallel()
			const probes = 20
			g := newGateway(t)
			c := newDownConsumer(t)
			g.start(`relay /vocals vocals {
				to consumer ` + c.URL() + ` {
					retry 50ms 50ms 50ms
					breaker 3 50ms
				}
			}`)
			for n := range waiting {
				g.accept("/vocals", callback(t, fmt.Sprintf("task-%d", n)))
			}
			var d destination
			eventually(t, patience, "the probes fail", func() bool {
				d = g.destination("consumer")
				return d.Breaker.Failures > 3+probes
			})
			if held := d.Counts["held"] + d.Counts["in_flight"]; d.State != "held" || d.Breaker.State != "open" || held != waiting || d.Counts["dead"] != 0 {
				t.Errorf("the destination shows as %+v", d)
			}
			c.up()
			c.waitFor(waiting)
			eventually(t, patience, "everything is settled", g.settled)
			if d := g.destination("consumer"); d.State != "active" || d.Counts["delivered"] != waiting || c.count() != waiting {
				t.Errorf("%d requests, and the destination shows as %+v", c.count(), d)
			}
		})
	}
}

// TestDeadLetters: without a breaker the retries run out. What is given up stays listed, and is delivered when redriven.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	const deliveries = 100
	g := newGateway(t)
	c := newDownConsumer(t)
	site := `relay /vocals vocals {
		to consumer ` + c.URL() + ` {
			retry 1s 1s 1s
			breaker off
		}
	}`
	g.start(site)
	for n := range deliveries {
		g.accept("/vocals", callback(t, fmt.Sprintf("task-%d", n)))
	}
	start := time.Now()
	eventually(t, patience, "all are given up", func() bool { return g.destination("consumer").Counts["dead"] == deliveries })
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("given up after %s, with three retries a second apart", took)
	}

	g.kill()
	g.start(site)
	dead := g.deadLetters(url.Values{"source": {"vocals"}, "destination": {"consumer"}, "limit": {"30"}})
	seen := map[string]bool{}
	for _, d := range dead {
		seen[d.EventID] = true
		if d.Attempts != 4 || d.LastStatus != 0 || d.LastError == "" || d.DeadAt.IsZero() || d.Destination != "consumer" {
			t.Fatalf("a dead letter shows as %+v", d)
		}
	}
	if len(dead) != deliveries || len(seen) != deliveries {
		t.Fatalf("%d dead letters are listed, of %d events", len(dead), len(seen))
	}
	if e := g.event(dead[0].EventID); e.State != "dead" || len(e.Deliveries) != 1 || len(e.Deliveries[0].Attempts) != 4 {
		t.Errorf("the event of a dead letter shows as %+v", e)
	}

	c.up()
	everything := map[string]any{"source": "vocals", "destination": "consumer"}
	if n := g.do("/relay/dead-letters/redrive", everything)["redriven"]; n != deliveries {
		t.Errorf("%d dead letters were redriven", n)
	}
	if n := g.do("/relay/dead-letters/redrive", everything)["redriven"]; n != 0 {
		t.Errorf("%d dead letters were redriven twice", n)
	}
	for _, r := range c.waitFor(deliveries) {
		if r.header.Get("Relay-Replay") != "1" || !seen[r.event()] {
			t.Errorf("a redriven delivery came with %v", r.header)
		}
	}
	eventually(t, patience, "everything is settled", g.settled)
	if left := g.deadLetters(nil); len(left) != 0 || c.count() != deliveries {
		t.Errorf("%d dead letters are left, after %d deliveries", len(left), c.count())
	}
}

// TestPermanent: a status that will not heal makes a dead letter at once, which an operator can discard.
func TestPermanent(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	c.answers(http.StatusGone)
	g.start(`relay /vocals vocals {
		to billing ` + c.URL() + `
		to library ` + c.URL() + `
	}`)
	g.accept("/vocals", callback(t, "a"))
	g.accept("/vocals", callback(t, "b"))
	// A page of three ends between the two of one event.
	listed := func() int { return len(g.deadLetters(url.Values{"limit": {"3"}})) }
	eventually(t, patience, "all are given up", func() bool { return listed() == 4 })
	if c.count() != 4 {
		t.Errorf("after %d attempts", c.count())
	}
	if n := g.do("/relay/dead-letters/discard", map[string]any{"source": "vocals", "destination": "library"})["discarded"]; n != 2 || listed() != 2 {
		t.Errorf("%d dead letters were discarded, and %d are left", n, listed())
	}
	if n := g.do("/relay/dead-letters/discard", map[string]any{"all": true})["discarded"]; n != 2 || listed() != 0 {
		t.Errorf("%d dead letters were discarded, and %d are left", n, listed())
	}
}
