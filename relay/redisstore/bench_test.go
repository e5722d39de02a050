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

// BenchmarkEvent stores events of some destinations in batches, each leased as it is accepted, and settles a batch as
// delivered before the next. It shows Redis's own processor time and memory of an event.
func BenchmarkEvent(b *testing.B) {
	for _, destinations := range [][]string{nil, {"one"}, {"one", "two", "three"}} {
		for _, size := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("destinations=%d/batch=%d", len(destinations), size), func(b *testing.B) {
				redis := redistest.Start(b)
				s := open(b, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
				body := []byte(`{"n":"` + strings.Repeat("v", 440) + `"}`)
				var settles []*relay.Settle
				batch := func(n int) {
					var next relay.Batch
					for range n {
						a := newAccept(destinations...)
						a.Event.Body = body
						a.Event.Headers = relay.Headers{"content-type": "application/json", "user-agent": "sender/1.0", "content-length": "450"}
						for i := range a.Deliveries {
							a.Deliveries[i].LeaseFor = time.Minute
						}
						next.Accepts = append(next.Accepts, a)
					}
					next.Settles = settles
					s.Apply(b.Context(), &next)
					for _, op := range settles {
						if op.Err != nil {
							b.Fatal(op.Err)
						}
					}
					settles = nil
					for _, a := range next.Accepts {
						if a.Err != nil || a.Result != relay.Accepted || len(a.Leased) != len(destinations) {
							b.Fatalf("result %d, %d leased, %v", a.Result, len(a.Leased), a.Err)
						}
						for _, l := range a.Leased {
							settles = append(settles, &relay.Settle{
								Leased: l, Outcome: relay.OutcomeDelivered, Used: true,
								Attempt: &relay.Attempt{At: time.Now(), Duration: time.Millisecond, Status: 200},
							})
						}
					}
				}
				batch(1)
				before, events := spent(b, redis), 0
				for b.Loop() {
					batch(size)
					events += size
				}
				b.ReportMetric((spent(b, redis)-before)/float64(events), "redis-µs/event")
			})
		}
	}
}
