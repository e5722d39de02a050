package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// exportPage is how many events an export reads at once, and how often it hands on what it has.
const exportPage = 100

// export streams events as lines of JSON, newest first, each as it is shown alone. One that fails midway breaks the
// connection, so that nobody takes what has arrived for all there is.
func export(w http.ResponseWriter, e *engine.Engine, r *http.Request) error {
	q := parseQuery(r, "source", "task_id", "state", "destination", "since", "until", "limit", "cursor")
	filter := parseFilter(q)
	left := -1 // no limit
	if q.text("limit") != "" {
		left = q.number("limit")
	}
	if q.err != nil {
		return q.err
	}
	if err := withStore(e); err != nil {
		return err
	}
	filter.Limit = exportPage
	events, next, err := e.Events(r.Context(), filter)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jsonl")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for {
		display := e.DisplayStates()
		for i := range events {
			if left == 0 {
				return nil
			}
			rec, err := e.Event(r.Context(), events[i].ID)
			if errors.Is(err, relay.ErrNotFound) {
				continue // it has been purged meanwhile
			}
			if err == nil {
				err = encoder.Encode(viewWhole(e, display, rec))
			}
			if err != nil {
				breakOff(r, err)
			}
			left--
		}
		if next == "" {
			return nil
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			breakOff(r, err)
		}
		filter.Cursor = next
		if events, next, err = e.Events(r.Context(), filter); err != nil {
			breakOff(r, err)
		}
	}
}

// breakOff closes the connection of a request whose answer has begun. Caddy's server knows this panic and logs nothing.
func breakOff(r *http.Request, err error) {
	if r.Context().Err() == nil {
		caddy.Log().Named("admin.api.relay").Error("export broken off", zap.String("path", r.URL.Path), zap.Error(err))
	}
	panic(http.ErrAbortHandler)
}
