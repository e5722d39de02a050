package caddymodule

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine"

	"github.com/callbackrelay/caddy-relay/relay"
)

// eventView is an event as the admin API shows it. Lists leave out headers, payload, files, variants and attempts.
type eventView struct {
	ID         string         `json:"id"`
	Source     string         `json:"source"`
	TaskID     string         `json:"task_id"`
	Stage      string         `json:"stage"`
	Code       string         `json:"code"`
	Key        string         `json:"key"`
	Origin     relay.Origin   `json:"origin"`
	ReceivedAt time.Time      `json:"received_at"`
	Duplicates int            `json:"duplicates"`
	Conflicts  int            `json:"conflicts"` // variants counted, of which 8 at most are kept
	State      relay.State    `json:"state"`
	Deliveries []deliveryView `json:"deliveries"`
	*eventDetails
}

type eventDetails struct {
	Variants []variantView   `json:"variants"`
	Headers  relay.Headers   `json:"headers"`
	Payload  json.RawMessage `json:"payload"`
	Files    []string        `json:"files"`
	// FilesTotal is how many files the payload names, where they are more than Files has.
	FilesTotal int `json:"files_total,omitempty"`
}

type variantView struct {
	N          int             `json:"n"`
	ReceivedAt time.Time       `json:"received_at"`
	Headers    relay.Headers   `json:"headers"`
	Payload    json.RawMessage `json:"payload"`
}

type deliveryView struct {
	Destination   string        `json:"destination"`
	State         relay.State   `json:"state"`
	Tries         int           `json:"tries"`
	Replay        int           `json:"replay,omitempty"`
	Variant       int           `json:"variant,omitempty"`
	Attempts      []attemptView `json:"attempts,omitzero"`
	NextAttemptAt time.Time     `json:"next_attempt_at,omitzero"`
	Reason        string        `json:"reason,omitempty"`
	DeadAt        time.Time     `json:"dead_at,omitzero"`
}

type attemptView struct {
	At         time.Time `json:"at"`
	DurationMS int64     `json:"duration_ms"`
	Status     int       `json:"status"`
	Error      string    `json:"error"`
	Response   string    `json:"response"`
}

// displayStates returns the state that pending deliveries of a destination are shown with, the same throughout an answer.
type displayStates func(source, destination string) relay.State

func listEvents(e *engine.Engine, r *http.Request) (any, error) {
	q := parseQuery(r, "source", "task_id", "state", "destination", "since", "until", "limit", "cursor")
	filter := relay.EventFilter{
		Source:      q.text("source"),
		TaskID:      q.text("task_id"),
		Destination: q.text("destination"),
		State:       relay.State(q.oneOf("state", string(relay.StatePending), string(relay.StateDelivered), string(relay.StateDead))),
		Since:       q.time("since"),
		Until:       q.time("until"),
		Limit:       q.limit(),
		Cursor:      q.text("cursor"),
	}
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
	page := struct {
		Events []eventView `json:"events"`
		Next   string      `json:"next"`
	}{make([]eventView, len(events)), next}
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
	view := viewEvent(e.DisplayStates(), rec)
	files, total := e.Files(rec)
	view.eventDetails = &eventDetails{
		Variants: make([]variantView, len(rec.Variants)),
		Headers:  rec.Headers,
		Payload:  shownBody(rec.Body),
		Files:    append([]string{}, files...),
	}
	if total > len(files) {
		view.FilesTotal = total
	}
	for i := range view.Deliveries {
		view.Deliveries[i].Attempts = viewAttempts(rec.Deliveries[i].Attempts)
	}
	for i, v := range rec.Variants {
		view.Variants[i] = variantView{v.N, v.ReceivedAt, v.Headers, shownBody(v.Body)}
	}
	return view, nil
}

func viewEvent(display displayStates, rec *relay.EventRecord) eventView {
	view := eventView{
		ID:         rec.ID,
		Source:     rec.Source,
		TaskID:     rec.TaskID,
		Stage:      rec.Stage,
		Code:       rec.Code,
		Key:        hex.EncodeToString(rec.Key[:]),
		Origin:     rec.Origin,
		ReceivedAt: rec.ReceivedAt.UTC(),
		Duplicates: rec.Duplicates,
		Conflicts:  rec.Conflicts,
		State:      rec.State(),
		Deliveries: make([]deliveryView, len(rec.Deliveries)),
	}
	for i := range rec.Deliveries {
		view.Deliveries[i] = viewDelivery(display, rec.Source, &rec.Deliveries[i])
	}
	return view
}

// viewDelivery shows held, paused and orphaned, which follow from the destination as it is now.
func viewDelivery(display displayStates, source string, rec *relay.DeliveryRecord) deliveryView {
	view := deliveryView{
		Destination: rec.Destination,
		State:       rec.State,
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
			view.State = state
		}
		// What is paused or orphaned has no next attempt, until an operator gives it one.
		if view.State == relay.StatePending || view.State == relay.StateHeld {
			view.NextAttemptAt = time.Now().Add(rec.NextAttempt).UTC()
		}
	}
	return view
}

func viewAttempts(attempts []relay.Attempt) []attemptView {
	views := make([]attemptView, len(attempts))
	for i, a := range attempts {
		views[i] = attemptView{
			At:         a.At.UTC(),
			DurationMS: a.Duration.Milliseconds(),
			Status:     a.Status,
			Error:      a.Error,
			Response:   string(a.Response),
		}
	}
	return views
}

// shownBody returns a body as it is if it is JSON, and as a text otherwise.
func shownBody(body []byte) json.RawMessage {
	if json.Valid(body) {
		return body
	}
	text, _ := json.Marshal(string(body)) // a string always marshals
	return text
}

func replay(e *engine.Engine, r *http.Request) (any, error) {
	var request struct {
		Destinations []string `json:"destinations"`
		Variant      int      `json:"variant"`
	}
	if err := readRequest(r, &request, false); err != nil {
		return nil, err
	}
	// No list means all of them; an empty one is what a script sends when a variable is unset.
	if request.Destinations != nil && len(request.Destinations) == 0 {
		return nil, badRequest("destinations: expected at least one name, or no such field for all of them.")
	}
	for _, name := range request.Destinations {
		if err := checkName(name); err != nil {
			return nil, badRequest("destinations: " + err.Error() + ".")
		}
	}
	if request.Variant < 0 || request.Variant > relay.MaxVariants {
		return nil, badRequest("variant: expected 0 for the first body, or the number of a variant.")
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	replayed, skipped, err := e.Replay(r.Context(), r.PathValue("id"), request.Destinations, request.Variant)
	if err != nil {
		return nil, err
	}
	return map[string]int{"replayed": replayed, "skipped": skipped}, nil
}
