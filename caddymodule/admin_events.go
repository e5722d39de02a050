package caddymodule

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// displayStates returns the state that pending deliveries of a destination are shown with, the same throughout an answer.
type displayStates func(source, destination string) relay.State

// eventStates are the states of an event.
var eventStates = []string{string(relay.StatePending), string(relay.StateDelivered), string(relay.StateDead)}

func parseFilter(q *query) relay.EventFilter {
	return relay.EventFilter{
		Source:      q.text("source"),
		TaskID:      q.text("task_id"),
		Destination: q.text("destination"),
		State:       relay.State(q.oneOf("state", eventStates...)),
		Since:       q.time("since"),
		Until:       q.time("until"),
		Cursor:      q.text("cursor"),
	}
}

func listEvents(e *engine.Engine, r *http.Request) (any, error) {
	q := parseQuery(r, "source", "task_id", "state", "destination", "since", "until", "limit", "cursor")
	filter := parseFilter(q)
	filter.Limit = q.limit()
	if q.err != nil {
		return nil, q.err
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	events, next, err := e.Events(r.Context(), filter)
	if err != nil {
		return nil, err
	}
	page := api.Events{Events: make([]api.Event, len(events)), Next: next}
	display := e.DisplayStates()
	for i := range events {
		page.Events[i] = viewEvent(display, &events[i])
	}
	return page, nil
}

func showEvent(e *engine.Engine, r *http.Request) (any, error) {
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
	return viewWhole(e, e.DisplayStates(), rec), nil
}

// viewWhole shows an event with what lists leave out.
func viewWhole(e *engine.Engine, display displayStates, rec *relay.EventRecord) api.Event {
	view := viewEvent(display, rec)
	files, total := e.Files(rec)
	view.EventDetails = &api.EventDetails{
		Variants: make([]api.Variant, len(rec.Variants)),
		Headers:  viewHeaders(rec.Headers),
		Payload:  shownBody(rec.Body),
		Files:    viewFiles(files, rec.Files),
	}
	if total > len(files) {
		view.FilesTotal = total
	}
	for i := range view.Deliveries {
		view.Deliveries[i].Attempts = viewAttempts(rec.Deliveries[i].Attempts)
	}
	for i, v := range rec.Variants {
		view.Variants[i] = api.Variant{N: v.N, ReceivedAt: v.ReceivedAt.UTC(), Headers: viewHeaders(v.Headers), Payload: shownBody(v.Body)}
	}
	return view
}

// viewHeaders shows an object for an event that has no headers, as alerts have none.
func viewHeaders(h relay.Headers) map[string]string {
	if h == nil {
		return relay.Headers{}
	}
	return h
}

// viewFiles shows the files that a payload names, each with its copy in the archive, and after them copies of what the
// variants name.
func viewFiles(urls []string, archived []relay.File) []api.File {
	archived = slices.Clone(archived)
	views := []api.File{}
	for _, url := range urls {
		view := api.File{URL: url}
		if i := slices.IndexFunc(archived, func(f relay.File) bool { return f.URL == url }); i >= 0 {
			view = viewFile(archived[i])
			archived = slices.Delete(archived, i, i+1)
		}
		views = append(views, view)
	}
	for _, f := range archived {
		views = append(views, viewFile(f))
	}
	return views
}

func viewFile(f relay.File) api.File {
	return api.File{URL: f.URL, Field: f.Field, Object: f.Object, ContentType: f.ContentType, Size: f.Size, SHA256: f.SHA256}
}

func viewEvent(display displayStates, rec *relay.EventRecord) api.Event {
	view := api.Event{
		ID:         rec.ID,
		Source:     rec.Source,
		TaskID:     rec.TaskID,
		Stage:      rec.Stage,
		Code:       rec.Code,
		Key:        hex.EncodeToString(rec.Key[:]),
		Origin:     string(rec.Origin),
		ReceivedAt: rec.ReceivedAt.UTC(),
		Duplicates: rec.Duplicates,
		Conflicts:  rec.Conflicts,
		State:      string(rec.State()),
		Deliveries: make([]api.Delivery, len(rec.Deliveries)),
	}
	for i := range rec.Deliveries {
		view.Deliveries[i] = viewDelivery(display, rec.Source, &rec.Deliveries[i])
	}
	return view
}

// viewDelivery shows held, paused and orphaned, which follow from the destination as it is now.
func viewDelivery(display displayStates, source string, rec *relay.DeliveryRecord) api.Delivery {
	view := api.Delivery{
		Destination: rec.Destination,
		State:       string(rec.State),
		Tries:       rec.Tries,
		Replay:      rec.Replay,
		Variant:     rec.Variant,
		Reason:      rec.Reason,
	}
	if !rec.DeadAt.IsZero() {
		view.DeadAt = rec.DeadAt.UTC()
	}
	if rec.State == relay.StatePending {
		if state := display(source, rec.Destination); state != "" {
			view.State = string(state)
		}
		// What is paused or orphaned has no next attempt, until an operator gives it one.
		if state := relay.State(view.State); state == relay.StatePending || state == relay.StateHeld {
			view.NextAttemptAt = time.Now().Add(rec.NextAttempt).UTC()
		}
	}
	return view
}

func viewAttempts(attempts []relay.Attempt) []api.Attempt {
	views := make([]api.Attempt, len(attempts))
	for i, a := range attempts {
		views[i] = api.Attempt{
			At:         a.At.UTC(),
			DurationMS: a.Duration.Milliseconds(),
			Status:     a.Status,
			Error:      a.Error,
			Response:   string(a.Response),
		}
	}
	return views
}

// shownBody returns a body as it is if it is JSON, and as a text otherwise, or where it is so deep that readers may give up.
func shownBody(body []byte) json.RawMessage {
	if payload.IsDocument(body) {
		return body
	}
	text, _ := json.Marshal(string(body)) // a string always marshals
	return text
}
