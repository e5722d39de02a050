package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// tasks lists expected tasks, or registers one.
func tasks(e *engine.Engine, r *http.Request) (any, error) {
	if r.Method == http.MethodPost {
		return expectTask(e, r)
	}
	return listTasks(e, r)
}

func listTasks(e *engine.Engine, r *http.Request) (any, error) {
	states := make([]string, len(relay.TaskStates))
	for i, s := range relay.TaskStates {
		states[i] = string(s)
	}
	q := parseQuery(r, "source", "task_id", "state", "limit", "cursor")
	filter := relay.TaskFilter{
		Source: q.text("source"), TaskID: q.text("task_id"), State: relay.TaskState(q.oneOf("state", states...)),
		Limit: q.limit(), Cursor: q.text("cursor"),
	}
	if q.err != nil {
		return nil, q.err
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	found, next, err := e.Tasks(r.Context(), filter)
	if err != nil {
		return nil, err
	}
	answer := api.Tasks{Tasks: make([]api.Task, len(found)), Next: next}
	now := time.Now()
	for i := range found {
		answer.Tasks[i] = viewTask(&found[i], now)
	}
	return answer, nil
}

func viewTask(t *relay.TaskRecord, now time.Time) api.Task {
	view := api.Task{
		Source: t.Source, TaskID: t.TaskID, API: t.API, State: string(t.State), Reason: t.Reason,
		ExpectedAt: t.At.UTC(), Polls: t.Polls, EventID: t.EventID,
	}
	shown := func(at time.Time) *time.Time {
		if at.IsZero() {
			return nil
		}
		at = at.UTC()
		return &at
	}
	view.LastPollAt, view.EndedAt = shown(t.LastPoll), shown(t.EndedAt)
	if !t.State.Ended() {
		view.NextPollAt = shown(now.Add(t.NextPoll))
	}
	return view
}

// expectTask registers a task that was submitted elsewhere.
func expectTask(e *engine.Engine, r *http.Request) (any, error) {
	var request api.ExpectRequest
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	if request.TaskID == "" {
		return nil, badRequest("task_id: expected the id of a task.")
	}
	if err := checkName(request.Source); err != nil {
		return nil, badRequest("source: " + err.Error() + ".")
	}
	src := e.Source(request.Source)
	if src == nil {
		return nil, errNotExpected(fmt.Errorf("source %q: %w", request.Source, relay.ErrNotFound))
	}
	if err := hasDetails(src, &request); err != nil {
		return nil, err
	}
	if err := e.Expect(r.Context(), src, request.TaskID, request.API); err != nil {
		return nil, errNotExpected(err)
	}
	return api.Expected{Source: request.Source, TaskID: request.TaskID}, nil
}

// hasDetails returns an error where an API is named of which the source's provider has no details, such as one that is
// misspelt.
func hasDetails(src *relay.Source, request *api.ExpectRequest) error {
	if src.Recover == nil || src.Recover.Details != nil || request.API == "" {
		return nil
	}
	if reader, ok := src.Provider.(relay.DetailsReader); ok {
		if _, ok := reader.DetailsPath(strings.Trim(request.API, "/"), request.TaskID); ok {
			return nil
		}
	}
	return badRequest("api: the source's provider has no details of this API; expected a path such as api/v1/vocal-removal/generate.")
}

// errNotExpected returns why a task was not registered, as the admin API shows it.
func errNotExpected(err error) error {
	switch {
	case errors.Is(err, engine.ErrNoRecovery):
		return &apiError{http.StatusConflict, "conflict", relay.Sentence(err)}
	case errors.Is(err, engine.ErrNeedsAPI):
		return badRequest("api: " + err.Error() + ".")
	case errors.Is(err, engine.ErrBadTask):
		return badRequest(relay.Sentence(err))
	case errors.Is(err, relay.ErrTooManyTasks):
		return &apiError{http.StatusTooManyRequests, "too_many_tasks", relay.Sentence(err)}
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrStoreFull), errors.Is(err, context.DeadlineExceeded):
		return &apiError{http.StatusServiceUnavailable, "unavailable", "The task cannot be registered now: " + err.Error() + "."}
	}
	return err
}
