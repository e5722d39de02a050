package courier

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/http"

	"github.com/oklog/ulid/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/callbackrelay/caddy-relay/relay"
)

// callbackSpan returns the span of a callback that came with one, or got one from the server (W3C Trace Context).
func callbackSpan(ev *relay.Event) trace.SpanContext {
	inbound := ev.Headers["traceparent"]
	if inbound == "" {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": inbound}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// begin starts the span of an attempt and returns the traceparent that the destination gets. The attempt continues the trace
// of its callback, as a child of the callback's span and with a link to it. Where nothing is traced, the span is nil, and
// the traceparent names one that nobody records, so that the destination's own spans belong to the same trace.
func (c *Courier) begin(dst *relay.Destination, d *relay.Leased) (trace.Span, string) {
	parent := callbackSpan(d.Event)
	tracer := c.tracing.tracer(d.Event.Source)
	if tracer == nil || !parent.IsValid() {
		return nil, traceparent(d.Event, parent)
	}
	_, span := tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), "relay "+dst.Name,
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithLinks(trace.Link{SpanContext: parent}),
		trace.WithAttributes(
			attribute.String("relay.source", d.Event.Source), attribute.String("relay.destination", dst.Name),
			attribute.String("relay.event_id", d.Event.ID), attribute.String("relay.task_id", d.Event.TaskID),
			attribute.Int("relay.attempt", d.Tries+1), attribute.Int("relay.replay", d.Replay),
		))
	if dst.URL != nil { // an archive has none
		span.SetAttributes(attribute.String("http.request.method", http.MethodPost), attribute.String("server.address", dst.URL.Hostname()))
	}
	own := span.SpanContext()
	if own.SpanID() == parent.SpanID() { // of a provider that was shut down
		return nil, traceparent(d.Event, parent)
	}
	return span, write(own)
}

// traceparent names a span of its own for an attempt that nobody records. Where the callback came without a trace, the
// event's id serves as the trace's, so that all attempts of an event are one trace.
func traceparent(ev *relay.Event, parent trace.SpanContext) string {
	if !parent.IsValid() {
		id, _ := ulid.ParseStrict(ev.ID) // our own; a zero trace id would be dropped by the receiver
		parent = parent.WithTraceID(trace.TraceID(id))
	}
	var span trace.SpanID
	binary.NativeEndian.PutUint64(span[:], rand.Uint64()) // no secret, so it need not cost a system call
	return write(parent.WithSpanID(span))
}

func write(span trace.SpanContext) string {
	flags := "-00"
	if span.IsSampled() {
		flags = "-01"
	}
	return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + flags
}
