package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestHangingDestination measures the latency of one destination with and without another that hangs until its timeout.
func TestHangingDestination(t *testing.T) {
	const callbacks = 200
	g := newGateway(t)
	quick, hanging := newConsumer(t), newConsumer(t)
	hanging.answersBy(hangs)
	g.start(`relay /alone alone {
		to quick ` + quick.URL() + `
	}
	relay /both both {
		to quick ` + quick.URL() + `
		to hanging ` + hanging.URL() + ` {
			timeout 2s
		}
	}`)
	// By turns, so that what else the machine does falls on both alike.
	latencies := map[string][]time.Duration{}
	for n := range callbacks {
		for _, source := range []string{"alone", "both"} {
			sent := time.Now()
			g.accept("/"+source, callback(t, fmt.Sprint("task-", n)))
			arrived := quick.waitFor(len(latencies["alone"]) + len(latencies["both"]) + 1)
			latencies[source] = append(latencies[source], arrived[len(arrived)-1].arrived.Sub(sent))
		}
	}
	alone, both := median(latencies["alone"]), median(latencies["both"])
	t.Logf("median latency alone %s, beside a hanging destination %s, which holds %d attempts", alone, both, hanging.count())
	if both > 2*alone+5*time.Millisecond {
		t.Errorf("a hanging destination slows the other: %s instead of %s", both, alone)
	}
	if hanging.count() == 0 {
		t.Error("nothing hangs")
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
