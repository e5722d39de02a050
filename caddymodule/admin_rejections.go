package caddymodule

import (
	"context"
	"errors"
	"net/http"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
)

func listRejections(e *engine.Engine, r *http.Request) (any, error) {
	q := parseQuery(r, "source", "limit", "cursor")
	source, limit, cursor := q.text("source"), q.limit(), q.text("cursor")
	if q.err != nil {
		return nil, q.err
	}
	rejected, next, err := e.Rejections(source, limit, cursor)
	if err != nil {
		return nil, err
	}
	answer := api.Rejections{Rejections: make([]api.Rejection, len(rejected)), Next: next}
	for i := range rejected {
		answer.Rejections[i] = viewRejection(&rejected[i])
	}
	return answer, nil
}

func viewRejection(r *intake.Rejected) api.Rejection {
	view := api.Rejection{
		ID: r.ID, Source: r.Source, At: r.At.UTC(), Result: r.Result, Status: r.Status, Code: r.Code, Message: r.Reason,
		Remote: r.Remote, TaskID: r.TaskID, Bytes: r.Size, CanAccept: r.Kept && r.Accepted == "", Accepted: r.Accepted,
		Headers: r.Headers,
	}
	if r.Client.IsValid() {
		view.Client = r.Client.String()
	}
	if r.Kept {
		view.Payload = shownBody(r.Body)
	}
	return view
}

func acceptRejection(e *engine.Engine, r *http.Request) (any, error) {
	var none struct{}
	if err := readRequest(r, &none, false); err != nil {
		return nil, err
	}
	receipt, err := e.AcceptRejected(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, errNotAdmitted(err)
	}
	return api.RejectionAccepted{EventID: receipt.EventID, Result: receipt.Result}, nil
}

// errNotAdmitted returns why an operator's callback was not taken in, as the admin API shows it.
func errNotAdmitted(err error) error {
	if refused, ok := errors.AsType[*intake.RefusedError](err); ok {
		return &apiError{refused.Status, refused.Code, refused.Message}
	}
	switch {
	case errors.Is(err, intake.ErrTaken):
		return &apiError{http.StatusConflict, "already_accepted", relay.Sentence(err)}
	case errors.Is(err, intake.ErrNotKept):
		return &apiError{http.StatusConflict, "not_kept", relay.Sentence(err)}
	case errors.Is(err, relay.ErrUnkept):
		return &apiError{http.StatusConflict, "conflict", "The callback conflicts with an event that takes no more variants: " + err.Error() + "."}
	case errors.Is(err, intake.ErrUnreadable):
		return &apiError{http.StatusUnprocessableEntity, "invalid_body", relay.Sentence(err)}
	case errors.Is(err, relay.ErrNotFound):
		return err
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrStoreFull), errors.Is(err, relay.ErrClosed),
		errors.Is(err, context.DeadlineExceeded):
		return &apiError{http.StatusServiceUnavailable, "unavailable", "The callback cannot be taken now: " + err.Error() + "."}
	}
	return err
}
