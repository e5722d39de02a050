package relay

import (
	"context"
	"crypto/rand"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceparent continues the trace of the callback (W3C Trace Context) with a span of its own for the attempt. Where the
// callback came without one, the event's id serves as the trace's, so that all attempts of an event are one trace.
func traceparent(ev *Event) string {
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

// inboundTrace gives the traceparent to keep with an event: of the span that the server opened for the request, where
// tracing is on.
func inboundTrace(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}
