package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

// settleTime is how long before a kill an attempt may have been answered, and its settle not be durable yet.
const settleTime = time.Second

// kill is the time in which a gateway was killed: requests that it had sent before may still arrive until the next starts.
type kill struct{ from, to time.Time }

// TestKill kills the gateway again and again under load, while the consumers fail half the time. What was answered must
// be delivered, and what is delivered twice must have been in flight, or answered and not yet settled, at a kill.
// RELAY_KILLS sets the number of rounds.
func TestKill(t *testing.T) {
	rounds := 3
	if text := os.Getenv("RELAY_KILLS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	const slots = 16
	g := newGateway(t)
	consumers := map[string]*consumer{"billing": newConsumer(t), "library": newConsumer(t)}
	site := `relay /vocals vocals {`
	for name, c := range consumers {
		c.answersBy(func(*request, <-chan struct{}) int {
			return []int{http.StatusOK, http.StatusInternalServerError}[rand.IntN(2)]
		})
		site += fmt.Sprintf(`
		to %s %s {
			retry exponential 100ms 1s 100
			breaker off
			max_in_flight %d
		}`, name, c.URL(), slots)
	}
	site += "\n}"

	answered := map[string]time.Time{}
	var kills []kill
	for round := range rounds {
		g.start(site)
		sender := g.startLoad("/vocals", fmt.Sprintf("kill-%d", round), 500, false)
		sender.reach(t, 250+rand.IntN(500))
		killed := time.Now()
		g.kill()
		sender.stop()
		kills = append(kills, kill{killed, time.Now()})
		maps.Copy(answered, sender.answered)
	}
	g.start(site)
	eventually(t, 3*patience, "everything is settled", g.settled)

	for name, c := range consumers {
		requests := c.requests()
		delivered := map[string]bool{}
		for _, r := range requests {
			if r.status == http.StatusOK {
				delivered[r.event()] = true
			}
		}
		lost := 0
		for id := range answered {
			if !delivered[id] {
				lost++
			}
		}
		repeats := explain(t, requests, kills, slots)
		t.Logf("%s: %d callbacks answered, %d of them lost; %d requests in %d rounds, of which %v repeat one that a kill cut off",
			name, len(answered), lost, len(requests), rounds, repeats)
		if lost > 0 {
			t.Errorf("%d answered callbacks were never delivered to %s", lost, name)
		}
	}
	if dead := g.deadLetters(nil); len(dead) > 0 {
		t.Errorf("%d dead letters, such as %+v", len(dead), dead[0])
	}
}

// explain checks every request beyond the first of an attempt. The number of an attempt repeats only if the gateway could not
// record it: a kill stands between the two, and at the kill the first was in flight or just answered. A slot is free
// again only once its settle is durable, so a kill repeats no more than the slots. It gives the repeats of each kill.
func explain(t *testing.T, requests []request, kills []kill, slots int) []int {
	t.Helper()
	repeats := make([]int, len(kills))
	latest := map[string]request{}
	for _, r := range requests {
		before, known := latest[r.event()]
		latest[r.event()] = r
		switch n, m := number(t, r), number(t, before); {
		case !known && n == 1:
		case known && n == m+1 && before.status != http.StatusOK:
		case known && n == m:
			i := between(kills, before.arrived, r.arrived)
			if i < 0 || !before.answered.IsZero() && before.answered.Before(kills[i].from.Add(-settleTime)) {
				t.Errorf("attempt %d of %s came at %s (answered %s) and again at %s, and no kill explains it",
					n, r.event(), before.arrived, before.answered, r.arrived)
				continue
			}
			if repeats[i]++; repeats[i] > slots {
				t.Errorf("a kill repeats more attempts than there are slots: %d", repeats[i])
			}
		default:
			t.Errorf("%s: attempt %d with answer %d, then attempt %d", r.event(), m, before.status, n)
		}
	}
	return repeats
}

func number(t *testing.T, r request) int {
	t.Helper()
	if r.header == nil {
		return 0
	}
	n, err := strconv.Atoi(r.attempt())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// between returns the index of the kill between two arrivals, or -1.
func between(kills []kill, first, second time.Time) int {
	for i, k := range kills {
		if first.Before(k.to) && second.After(k.from) {
			return i
		}
	}
	return -1
}
