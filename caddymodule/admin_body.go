package caddymodule

import (
	"net/http"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// rawBody is an answer that is not JSON: a callback's body, byte for byte.
type rawBody struct {
	contentType string
	bytes       []byte
}

// showBody answers with an event's body as it came. The JSON of an event has the same payload, but not its white space.
func showBody(e *engine.Engine, r *http.Request) (any, error) {
	if q := parseQuery(r); q.err != nil {
		return nil, q.err
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	rec, err := e.Event(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return &rawBody{rec.Headers["content-type"], rec.Body}, nil
}

// write writes the body so that a browser saves it and never shows it: a stranger wrote it, and the admin endpoint can
// change the whole configuration.
func (b *rawBody) write(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", "attachment")
	header.Set("X-Content-Type-Options", "nosniff")
	if b.contentType != "" {
		header.Set(api.HeaderContentType, b.contentType)
	}
	_, _ = w.Write(b.bytes) // a client that hangs up needs no answer
}
