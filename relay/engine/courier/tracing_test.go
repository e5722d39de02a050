package courier

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/callbackrelay/caddy-relay/relay"
)

// TestTracing: each attempt of a traced source is a span below its callback's and linked to it, which the destination's
// traceparent names; other sources, and whatever follows the provider's end, are not traced.
func TestTracing(t *testing.T) {
	status := http.StatusOK
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Traceparent")
		w.WriteHeader(status)
	}))
	defer server.Close()
	dst, _ := destination(t, server.URL+"/hook?secret=x")
	dst.Name = "billing"
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unrecorded := regexp.MustCompile("^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$")
	d := leased([]byte("{}"))
	d.Event.Headers = relay.Headers{"traceparent": parent}

	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	tracing := new(Tracing)
	courier := New("caddy-relay/test", tracing)
	_, span := provider.Tracer("server").Start(t.Context(), "callback")
	tracing.Callback("drums", span)
	courier.Attempt(t.Context(), dst, d)
	if n := len(recorder.Ended()); n != 0 || !unrecorded.MatchString(got) {
		t.Fatalf("%d spans of a source that is not traced, traceparent %q", n, got)
	}

	tracing.Callback("vocals", span)
	courier.Attempt(t.Context(), dst, d)
	status = http.StatusServiceUnavailable
	d.Tries, d.Replay = 2, 1
	courier.Attempt(t.Context(), dst, d)
	spans := recorder.Ended()
	if len(spans) != 2 {
		t.Fatalf("%d spans of two attempts", len(spans))
	}
	callback := callbackSpan(d.Event)
	for i, s := range spans {
		if s.Name() != "relay billing" || s.SpanKind() != trace.SpanKindClient || s.Parent().SpanID() != callback.SpanID() ||
			len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != callback.SpanID() {
			t.Errorf("span %d is %s below %s, linked to %v", i, s.Name(), s.Parent().SpanID(), s.Links())
		}
	}
	failed := spans[1]
	if failed.Status().Code != codes.Error || spans[0].Status().Code != codes.Unset {
		t.Errorf("the spans end with %v and %v", spans[0].Status(), failed.Status())
	}
	values := attribute.NewSet(failed.Attributes()...)
	for name, want := range map[attribute.Key]string{
		"relay.source": "vocals", "relay.destination": "billing", "relay.event_id": d.Event.ID, "relay.task_id": "task-1",
		"relay.attempt": "3", "relay.replay": "1", "http.response.status_code": "503", "server.address": "127.0.0.1",
	} {
		if v, _ := values.Value(name); v.String() != want {
			t.Errorf("%s is %q, not %q", name, v.String(), want)
		}
	}
	if want := "00-" + failed.SpanContext().TraceID().String() + "-" + failed.SpanContext().SpanID().String() + "-01"; got != want {
		t.Errorf("the destination got %q, not %q", got, want)
	}

	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	courier.Attempt(t.Context(), dst, d)
	if n := len(recorder.Ended()); n != 2 || !unrecorded.MatchString(got) || got == parent {
		t.Errorf("%d spans after the end, traceparent %q", n, got)
	}
}
