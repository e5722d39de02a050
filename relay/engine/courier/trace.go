package courier

import (
	"context"
	"crypto/rand"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/callbackrelay/caddy-relay/relay"
)

// traceparent continues the trace of the callback (W3C Trace Context) with a span of its own for the attempt. Where the
// callback came without one, the event's id serves as the trace's, so that all attempts of an event are one trace.
func traceparent(ev *relay.Event) string {
	var parent trace.SpanContext
	if inbound := ev.Headers["traceparent"]; inbound != "" {
		carrier := propagation.MapCarrier{"traceparent": inbound}
		parent = trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	}
	if !parent.IsValid() {
		id, _ := ulid.ParseStrict(ev.ID) // our own; a zero trace id would be dropped by the receiver
		parent = parent.WithTraceID(trace.TraceID(id))
	}
	var span trace.SpanID
	_, _ = rand.Read(span[:]) // never fails
	flags := "-00"
	if parent.IsSampled() {
		flags = "-01"
	}
	return "00-" + parent.TraceID().String() + "-" + span.String() + flags
}
