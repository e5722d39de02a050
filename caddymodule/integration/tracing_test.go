package integration

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestTracing: with Caddy's `tracing` a collector gets the span of a callback and, below it and linked to it, one of each
// attempt, whose traceparent the destination gets.
func TestTracing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var spans []*tracev1.Span
	traces := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				spans = append(spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(traces.Close)

	g := newGateway(t)
	consumer := newConsumer(t)
	attempts := 0
	consumer.answersBy(func(*request, <-chan struct{}) int {
		if attempts++; attempts == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	cmd := caddy(g.home, "run", "--adapter", "caddyfile", "--config", g.write(g.caddyfile(`tracing {
		span callback
	}
	relay /vocals vocals {
		to billing `+consumer.URL()+` {
			retry 100ms
		}
	}`)))
	cmd.Env = append(cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+traces.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=50")
	g.process = startProcess(t, cmd)
	g.process.waitFor(t, "serving initial configuration")
	g.awaitSite()

	const trace, sender = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	req, err := http.NewRequest(http.MethodPost, "https://localhost/vocals", strings.NewReader(callback(t, "a")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", "00-"+trace+"-"+sender+"-01")
	if a, err := send(g.client, req); err != nil || a.status != http.StatusOK {
		t.Fatalf("%+v, %v", a, err)
	}
	requests := consumer.waitFor(2)
	eventually(t, patience, "the spans arrive at the collector", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(spans) == 3
	})
	mu.Lock()
	defer mu.Unlock()
	var server *tracev1.Span
	byID := map[string]*tracev1.Span{}
	for _, s := range spans {
		if hex.EncodeToString(s.TraceId) != trace {
			t.Errorf("span %s is of trace %x", s.Name, s.TraceId)
		}
		byID[hex.EncodeToString(s.SpanId)] = s
		if s.Name == "callback" {
			server = s
		}
	}
	if server == nil || hex.EncodeToString(server.ParentSpanId) != sender {
		t.Fatalf("the span of the callback is %v", server)
	}
	for i, r := range requests {
		parts := strings.Split(r.header.Get("Traceparent"), "-")
		if len(parts) != 4 || parts[1] != trace {
			t.Fatalf("attempt %d came with %q", i+1, r.header.Get("Traceparent"))
		}
		s := byID[parts[2]]
		if s == nil || s.Name != "relay billing" || string(s.ParentSpanId) != string(server.SpanId) ||
			len(s.Links) != 1 || string(s.Links[0].SpanId) != string(server.SpanId) {
			t.Errorf("the span of attempt %d is %v", i+1, s)
		}
		if failed := s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR; failed != (i == 0) {
			t.Errorf("the span of attempt %d ends with %v", i+1, s.GetStatus())
		}
	}
}
