package caddymodule

import (
	"net/http"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// showBody answers with an event's body byte for byte. The JSON of an event has the same payload, but not its white space.
//
// It is sent so that a browser saves it and never shows it: a stranger wrote it, and the admin endpoint can change the whole
// configuration.
func showBody(w http.ResponseWriter, e *engine.Engine, r *http.Request) error {
	if q := parseQuery(r); q.err != nil {
		return q.err
	}
	if err := withStore(e); err != nil {
		return err
	}
	rec, err := e.Event(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", "attachment")
	header.Set("X-Content-Type-Options", "nosniff")
	if contentType := rec.Headers["content-type"]; contentType != "" {
		header.Set(api.HeaderContentType, contentType)
	}
	_, _ = w.Write(rec.Body) //nolint:gosec // no browser renders it, see above; a client that hangs up needs no answer
	return nil
}
