package redisstore_test

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// spent returns the processor time that a Redis has used, in microseconds.
func spent(b *testing.B, redis *redistest.Server) (us float64) {
	b.Helper()
	text, _ := redis.Do(b, "INFO", "cpu").(string)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "used_cpu_user" && name != "used_cpu_sys" {
			continue
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil {
			b.Fatal(err)
		}
		us += seconds * 1e6
	}
	return us
}

// BenchmarkEvent stores events of some destinations in batches, and settles a batch as delivered before the next. Each delivery is
// leased as it is accepted, or waits and is leased by the next batch. It shows Redis's own processor time of an event.
func BenchmarkEvent(b *testing.B) {
	for _, destinations := range [][]string{nil, {"one"}, {"one", "two", "three"}} {
		for _, size := range []int{1, 8, 32} {
			name := fmt.Sprintf("destinations=%d/batch=%d", len(destinations), size)
			b.Run(name, func(b *testing.B) { benchmarkEvent(b, destinations, size, time.Minute) })
			if destinations != nil {
				b.Run(name+"/waiting", func(b *testing.B) { benchmarkEvent(b, destinations, size, 0) })
			}
		}
	}
}

func benchmarkEvent(b *testing.B, destinations []string, size int, leaseFor time.Duration) {
	b.Helper()
	redis := redistest.Start(b)
	s := open(b, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
	body := []byte(`{"n":"` + strings.Repeat("v", 440) + `"}`)
	var leased []*relay.Leased
	waiting := 0
	batch := func(n int) {
		var next relay.Batch
		for _, l := range leased {
			next.Settles = append(next.Settles, &relay.Settle{
				Leased: l, Outcome: relay.OutcomeDelivered, Used: true,
				Attempt: &relay.Attempt{At: time.Now(), Duration: time.Millisecond, Status: 200},
			})
		}
		for range n {
			a := newAccept(destinations...)
			a.Event.Body = body
			a.Event.Headers = relay.Headers{"content-type": "application/json", "user-agent": "sender/1.0", "content-length": "450"}
			for i := range a.Deliveries {
				a.Deliveries[i].LeaseFor = leaseFor
			}
			next.Accepts = append(next.Accepts, a)
		}
		if leaseFor == 0 {
			for _, d := range destinations {
				next.Leases = append(next.Leases, &relay.Lease{Source: "vocals", Destination: d, Max: size, For: time.Minute})
			}
		}
		s.Apply(b.Context(), &next)
		for _, op := range next.Settles {
			if op.Err != nil {
				b.Fatal(op.Err)
			}
		}
		leased = nil
		for _, a := range next.Accepts {
			if a.Err != nil || a.Result != relay.Accepted {
				b.Fatalf("result %d, %v", a.Result, a.Err)
			}
			leased = append(leased, a.Leased...)
		}
		for _, l := range next.Leases {
			if l.Err != nil {
				b.Fatal(l.Err)
			}
			leased = append(leased, l.Leased...)
		}
		if waiting += n*len(destinations) - len(leased); leaseFor > 0 && waiting > 0 {
			b.Fatalf("%d wait", waiting)
		}
	}
	backlog := 0
	if leaseFor == 0 { // more than a lease takes
		backlog = 2 * size
	}
	batch(1 + backlog)
	before, events := spent(b, redis), 0
	for b.Loop() {
		batch(size)
		events += size
	}
	b.ReportMetric((spent(b, redis)-before)/float64(events), "redis-µs/event")
}
