package engine_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

// BenchmarkReceive measures the way of a callback to its durable acceptance, with 64 callers and without a network.
func BenchmarkReceive(b *testing.B) {
	dst := destination(b, "a", "http://127.0.0.1:1/")
	g := newGateway(b, dst)
	if err := g.Pause(b.Context(), "vocals", "a", true); err != nil {
		b.Fatal(err)
	}
	client := netip.MustParseAddr("203.0.113.7")
	var n atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := httptest.NewRequest(http.MethodPost, "/callback", nil)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("User-Agent", "bench")
		for pb.Next() {
			body := fmt.Appendf(nil, `{"code":200,"msg":"vocal Removal generated successfully.","data":{"task_id":"%032x","vocal_removal_info":{"instrumental_url":"https://tempfile.example/v/94322944-2c96-4be3-b7fb-606e3924a8d2_instrumental.mp3","origin_url":"https://cdn1.example/549fc4b2-294f-44ea-a35b-419687b07ab9.mp3","vocal_url":"https://tempfile.example/v/94322944-2c96-4be3-b7fb-606e3924a8d2_vocal.mp3"}}}`, n.Add(1))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			w := &answer{header: http.Header{}}
			if got := g.Receive(w, r, g.source, client); got.Result != relay.ResultAccepted {
				b.Errorf("result %s, status %d", got.Result, w.status)
			}
		}
	})
}

// answer is a response writer that costs nothing.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }
