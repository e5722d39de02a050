package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
)

// send accepts a sample, or the callback of the request, as the source's door would: but for who may call, since the
// operator may.
func send(e *engine.Engine, r *http.Request) (any, error) {
	var request api.SendRequest
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	if err := checkName(request.Source); err != nil {
		return nil, badRequest("source: " + err.Error() + ".")
	}
	src := e.Source(request.Source)
	if src == nil {
		return nil, fmt.Errorf("source %q: %w", request.Source, relay.ErrNotFound)
	}
	body, header := intake.Sample(src)
	if request.Body != nil {
		var text string
		if body = request.Body; json.Unmarshal(body, &text) == nil {
			body = []byte(text)
		}
	}
	for name, value := range request.Headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, badRequest(fmt.Sprintf("headers: expected names and values of HTTP headers, got %q.", name))
		}
		header.Set(name, value)
	}
	if request.ContentType != "" {
		if !httpguts.ValidHeaderFieldValue(request.ContentType) {
			return nil, badRequest("content_type: expected a media type.")
		}
		header.Set("Content-Type", request.ContentType)
	}
	receipt, err := e.Admit(r.Context(), request.Source, header, body)
	switch {
	case errors.Is(err, intake.ErrUnreadable) && request.Body == nil:
		return nil, &apiError{
			http.StatusUnprocessableEntity, "invalid_body",
			"No sample can be made that this source reads; send a callback of your own: " + err.Error() + ".",
		}
	case err != nil:
		return nil, errNotAdmitted(err)
	}
	return api.Sent{
		Status: src.Response.Status, EventID: receipt.EventID, Body: src.Response.Body,
		Duplicate: receipt.Result == relay.ResultDuplicate || receipt.Result == relay.ResultConflict,
	}, nil
}
