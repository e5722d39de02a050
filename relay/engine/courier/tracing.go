package courier

import (
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Tracing knows which sources have their callbacks traced by the server, and by whom. The server shows its tracer to nobody
// but the requests that it traces, so a source is traced from its first such callback on. The zero Tracing traces nothing.
type Tracing struct {
	providers sync.Map // by source: trace.TracerProvider
}

// Callback notes the span that the server opened for a callback of a source. From then on the source's attempts are traced
// to where this span goes, until the server shuts its provider down.
func (t *Tracing) Callback(source string, span trace.Span) {
	provider := span.TracerProvider()
	if known, ok := t.providers.Load(source); !ok || known != provider {
		t.providers.Store(source, provider)
	}
}

// tracer returns the tracer of a source; nil where its callbacks are not traced.
func (t *Tracing) tracer(source string) trace.Tracer {
	provider, ok := t.providers.Load(source)
	if !ok {
		return nil
	}
	return provider.(trace.TracerProvider).Tracer("github.com/callbackrelay/caddy-relay") // none that records, after a shutdown
}

// end ends the span of an attempt with its outcome. Of the destination's URL a trace shows the host alone, since the rest may
// hold a secret.
func end(span trace.Span, a *Answer) {
	if a.Status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", a.Status))
	}
	switch {
	case a.Released:
		span.SetStatus(codes.Error, "the gateway stopped")
	case a.Error != "" && (!a.Success() || a.Missing != nil):
		span.SetStatus(codes.Error, a.Error)
	case !a.Success():
		span.SetStatus(codes.Error, http.StatusText(a.Status))
	}
	span.End()
}
