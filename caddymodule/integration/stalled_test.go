package integration

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// startStalled runs the gateway with an output that nobody reads until flow is called.
func (g *gateway) startStalled(site string) (flow func()) {
	g.t.Helper()
	g.process = startCaddy(g.t, g.home, "run", "--config", g.write(g.caddyfile(site)), "--adapter", "caddyfile")
	flow = g.process.Stall()
	g.awaitSite()
	return flow
}

// storm sends callbacks from several senders at once, which must be answered with a status, and returns how long each
// answer took, in ascending order.
func (g *gateway) storm(path string, bodies []string, status int) []time.Duration {
	g.t.Helper()
	const senders = 16
	took := make([]time.Duration, len(bodies))
	next := make(chan int)
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for n := range next {
				sent := time.Now()
				a, err := g.try(path, bodies[n])
				if took[n] = time.Since(sent); err != nil || a.status != status {
					g.t.Errorf("%s is answered %d %s (%v), not %d", path, a.status, a.body, err, status)
				}
			}
		})
	}
	for n := range bodies {
		next <- n
	}
	close(next)
	sending.Wait()
	slices.Sort(took)
	return took
}

// callbacks returns so many callbacks of different tasks.
func callbacks(t *testing.T, prefix string, count int) []string {
	t.Helper()
	body := callback(t, "{task}")
	all := make([]string, count)
	for n := range all {
		all[n] = strings.Replace(body, "{task}", fmt.Sprint(prefix, "-", n), 1)
	}
	return all
}

// TestStalledLog: a log that nobody reads costs senders nothing, neither those whose destination fails at every attempt,
// each with a line in the log, nor those who are refused with a line, nor anybody else. What does not fit the queue of the
// log is counted. On an idle machine every answer comes within 50 ms; a busy one is allowed more.
func TestStalledLog(t *testing.T) {
	const bound = 2 * time.Second
	g := newGateway(t)
	healthy, failing := newConsumer(t), newDownConsumer(t)
	flow := g.startStalled(`relay /healthy healthy {
		to consumer ` + healthy.URL() + `
	}
	relay /failing failing {
		to consumer ` + failing.URL() + ` {
			retry exponential 100ms 100ms 10000
			breaker off
		}
	}`)
	backlog := callbacks(t, "backlog", 64)
	g.storm("/failing", backlog, http.StatusOK)
	dropped := func() float64 { return g.metric("caddy_relay_log_dropped_total") }
	took := map[string][]time.Duration{
		"refused": g.storm("/healthy", slices.Repeat([]string{"{}"}, 4500), http.StatusBadRequest),
	}
	eventually(t, 2*patience, "the queue of the log is full, and lines are dropped", func() bool { return dropped() > 0 })
	before := dropped()

	answered := make(chan []time.Duration)
	go func() { answered <- g.storm("/failing", callbacks(t, "failing", 200), http.StatusOK) }()
	took["healthy"] = g.storm("/healthy", callbacks(t, "healthy", 2000), http.StatusOK)
	took["failing"] = <-answered
	for name, all := range took {
		late, _ := slices.BinarySearch(all, 50*time.Millisecond)
		t.Logf("%s: %d answers, median %s, p99 %s, slowest %s, %d after 50 ms",
			name, len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1], len(all)-late)
		if slowest := all[len(all)-1]; slowest > bound {
			t.Errorf("%s: an answer took %s", name, slowest)
		}
	}
	eventually(t, patience, "the healthy source's callbacks are delivered", func() bool { return healthy.count() == 2000 })
	eventually(t, patience, "more lines are dropped", func() bool { return dropped() > before })
	t.Logf("%v lines dropped", dropped())

	failing.up()
	eventually(t, 2*patience, "the failing source's callbacks are delivered", g.settled)
	if n := failing.count(); n != 264 {
		t.Errorf("%d requests of 264 callbacks", n)
	}
	flow() // since Caddy's own lines of a stop wait for it
	if took := g.stop(); took > patience {
		t.Errorf("the gateway stops after %s", took)
	}
}
