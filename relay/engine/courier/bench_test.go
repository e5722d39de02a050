//go:build unix

package courier

import (
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkAttempt measures attempts at a consumer in this process, 16 at a time. cpu-µs/op is the time of all threads,
// the consumer's included.
func BenchmarkAttempt(b *testing.B) {
	for _, k := range clients {
		b.Run(string(k), func(b *testing.B) {
			address := listen(b, serveRaw)
			dst := k.over(b, "http://"+address, &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}, 0)
			c, body := New("caddy-relay/bench", new(Tracing)), []byte(strings.Repeat("x", 450))
			var failed atomic.Int64
			b.SetParallelism(8)
			b.ReportAllocs()
			before := processTime(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if a := c.Attempt(b.Context(), dst, leased(body)); !a.Success() {
						failed.Add(1)
					}
				}
			})
			b.ReportMetric(float64((processTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
			if failed.Load() > 0 {
				b.Errorf("%d attempts failed", failed.Load())
			}
		})
	}
}

func processTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
