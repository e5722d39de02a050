package courier

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkAttempt measures attempts at a consumer on this machine, 16 at a time.
func BenchmarkAttempt(b *testing.B) {
	address := listen(b, serveRaw)
	dst, _ := destinationOver(b, "http://"+address, &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}, 0)
	c, body := New("caddy-relay/bench", new(Tracing)), []byte(strings.Repeat("x", 450))
	var failed atomic.Int64
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if a := c.Attempt(b.Context(), dst, leased(body)); !a.Success() {
				failed.Add(1)
			}
		}
	})
	if failed.Load() > 0 {
		b.Errorf("%d attempts failed", failed.Load())
	}
}
