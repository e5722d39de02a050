package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

func init() {
	caddy.RegisterModule(new(AdminAPI))
}

// maxAdminBody bounds the body of an admin request.
const maxAdminBody = 1 << 20

// AdminAPI serves the paths under /relay/ on Caddy's admin endpoint. It belongs to the endpoint and not to a config: it is
// made before the apps are, and outlives a reload that fails, so it looks the app up at each request.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.relay",
		New: func() caddy.Module { return new(AdminAPI) },
	}
}

// Provision shows the metrics on the admin endpoint of a config whose apps may yet fail to load.
func (*AdminAPI) Provision(ctx caddy.Context) error {
	return registerMetrics(ctx.GetMetricsRegistry())
}

// Routes lists the paths.
func (*AdminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		route(http.MethodGet, api.PathStatus, answers(status)),
		route(http.MethodGet, api.PathEvents, answers(listEvents)),
		route(http.MethodGet, api.PathExport, export),
		route(http.MethodGet, api.PathEvents+"/{id}", answers(showEvent)),
		route(http.MethodGet, api.PathEvents+"/{id}/body", showBody),
		route(http.MethodPost, api.PathEvents+"/{id}/replay", answers(replay)),
		route(http.MethodPost, api.PathReplay, withProgress(replayAll)),
		route(http.MethodGet, api.PathDeadLetters, answers(listDeadLetters)),
		route(http.MethodPost, api.PathRedrive, withProgress(redrive)),
		route(http.MethodPost, api.PathDiscard, withProgress(discard)),
		route(http.MethodPost, api.PathDestination+"/{source}/{name}/pause", answers(pause(true))),
		route(http.MethodPost, api.PathDestination+"/{source}/{name}/resume", answers(pause(false))),
		route(http.MethodPost, api.PathDestination+"/{source}/{name}/reassign", withProgress(reassign)),
		route(http.MethodGet, api.PathRejections, answers(listRejections)),
		route(http.MethodPost, api.PathRejections+"/{id}/accept", answers(acceptRejection)),
		routeOf([]string{http.MethodGet, http.MethodPost}, api.PathTasks, answers(tasks)),
		route(http.MethodGet, api.PathStream, serveStream),
		route(http.MethodPost, api.PathSend, answers(send)),
		route(http.MethodGet, api.PathDoctor, answers(doctor)),
		{Pattern: "/relay/", Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			writeError(w, r, &apiError{http.StatusNotFound, "not_found", "There is nothing at this path."})
			return nil
		})},
	}
}

// endpoint serves one admin request: it returns the value to encode as JSON, or an error.
type endpoint func(e *engine.Engine, r *http.Request) (any, error)

// answers serves an endpoint.
func answers(serve endpoint) server {
	return func(w http.ResponseWriter, e *engine.Engine, r *http.Request) error {
		v, err := serve(e, r)
		if err == nil {
			writeJSON(w, http.StatusOK, v)
		}
		return err
	}
}

// server serves one admin request itself. It returns an error only where it has written nothing.
type server func(w http.ResponseWriter, e *engine.Engine, r *http.Request) error

// route serves one path, which has one method.
func route(method, pattern string, serve server) caddy.AdminRoute {
	return routeOf([]string{method}, pattern, serve)
}

// routeOf serves one path. It answers errors itself, since Caddy would leave out their code.
func routeOf(methods []string, pattern string, serve server) caddy.AdminRoute {
	return caddy.AdminRoute{Pattern: pattern, Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if !slices.Contains(methods, r.Method) && (r.Method != http.MethodHead || !slices.Contains(methods, http.MethodGet)) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			writeError(w, r, &apiError{http.StatusMethodNotAllowed, "method_not_allowed", "Expected the method " + strings.Join(methods, " or ") + "."})
			return nil
		}
		app, err := shownApp()
		if err == nil {
			err = takeBody(w, r)
		}
		if err == nil {
			err = serve(w, app.pooled.Engine, r)
		}
		if err != nil {
			writeError(w, r, err)
		}
		return nil
	})}
}

// takeBody reads the body, within its limit, and then lifts the deadline for reading, which would end the request's context
// after ten seconds: what is done in bulk, or streamed, takes longer.
func takeBody(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return err
	}
	if err != nil {
		return badRequest("The body cannot be read: " + err.Error() + ".")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a writer that has none ends nothing
	return nil
}

var errNotConfigured = &apiError{http.StatusServiceUnavailable, "not_configured", "No relay is configured, or Caddy has not loaded its config yet."}

// withStore returns an error, answered with 503, unless the store is open.
func withStore(e *engine.Engine) error {
	if _, err := e.Store(); err != nil {
		return &apiError{http.StatusServiceUnavailable, "store_unavailable", "The store is not open: " + err.Error() + "."}
	}
	return nil
}

// apiError is an error as the admin API, the dashboard and relay_submit answer it.
type apiError struct {
	status  int
	code    string // for programs
	message string // one sentence, for people
}

func (e *apiError) Error() string { return e.message }

func badRequest(message string) error {
	return &apiError{http.StatusBadRequest, "bad_request", message}
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	var e *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
	case errors.As(err, &tooLarge):
		e = &apiError{http.StatusRequestEntityTooLarge, "too_large", "The body is larger than 1 MiB."}
	case errors.Is(err, relay.ErrNotFound):
		e = &apiError{http.StatusNotFound, "not_found", relay.Sentence(err)}
	case errors.Is(err, relay.ErrBadCursor):
		e = &apiError{http.StatusBadRequest, "bad_cursor", "The cursor is not one that this store has handed out."}
	case errors.Is(err, engine.ErrConfigured), errors.Is(err, engine.ErrDrift):
		e = &apiError{http.StatusConflict, "conflict", relay.Sentence(err)}
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrStoreFull):
		e = &apiError{http.StatusServiceUnavailable, "store_unavailable", relay.Sentence(err)}
	case errors.Is(err, relay.ErrClosed), errors.Is(err, relay.ErrStoreLocked):
		e = &apiError{http.StatusServiceUnavailable, "store_unavailable", "The store is not open: " + err.Error() + "."}
	case r.Context().Err() != nil:
		return // nobody listens
	default:
		e = &apiError{http.StatusInternalServerError, "internal", relay.Sentence(err)}
		caddy.Log().Named("admin.api.relay").Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
	}
	writeJSON(w, e.status, &api.Error{Code: e.code, Message: e.message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // payloads are shown as they came
	_ = encoder.Encode(v)        // a client that hangs up needs no answer
}

// readRequest decodes the body of a request that takes everything from its body. A query would be left unread, and what it
// was meant to select with it.
func readRequest(r *http.Request, v any, required bool) error {
	if q := parseQuery(r); q.err != nil {
		return q.err
	}
	return readJSON(r, v, required)
}

// readJSON decodes the body, one object, into v. It refuses null, for the whole body and for each field, and a field with an
// empty text, since a script whose variable is unset would otherwise select more than was meant; and unknown fields, one field
// twice, of which the later would silently replace the earlier, and anything after the object. An empty body leaves v as it is, unless a body is required.
func readJSON(r *http.Request, v any, required bool) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 && !required {
		return nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		if other, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return badRequest("Expected a JSON object as the body, got " + other.Value + ".")
		}
		return badRequest("Expected a JSON object as the body: " + err.Error() + ".")
	}
	if fields == nil {
		return badRequest("Expected a JSON object as the body, got null.")
	}
	if err := checkFieldNames(body); err != nil {
		return err
	}
	for name, value := range fields {
		if text := string(value); text == "null" || text == `""` {
			return badRequest(name + ": expected a value, or no such field; got " + text + ".")
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		if other, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && other.Field != "" {
			return badRequest(fmt.Sprintf("%s: expected %s, got %s.", other.Field, jsonKind(other.Type), other.Value))
		}
		return badRequest("The body is not what is expected here: " + err.Error() + ".")
	}
	return nil
}

// jsonKind returns the JSON that a Go type is read from, in words.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Pointer:
		return jsonKind(t.Elem())
	}
	return "number"
}

// checkFieldNames refuses what encoding/json would let pass in an object that it can read: a name that stands there twice, or is
// written with other letters than it has here, which would count as the same.
func checkFieldNames(object []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil { // the opening brace
		return err
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		switch {
		case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "":
			return badRequest(fmt.Sprintf("The body is not what is expected here: unknown field %q.", name))
		case seen[name]:
			return badRequest(name + ": expected once.")
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner = (*AdminAPI)(nil)
	_ caddy.AdminRouter = (*AdminAPI)(nil)
)
