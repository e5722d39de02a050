package caddymodule

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
)

func init() {
	caddy.RegisterModule(new(Health))
}

// Health answers load balancers: 200 while this gateway can take callbacks, by its store or its spool, and 503 with the
// reason otherwise. With the query `ready` it is 503 from the start of a shutdown, too, so that a load balancer sends its
// callbacks elsewhere while the gateway still takes them: set Caddy's shutdown_delay to the time that this needs.
//
// It answers GET and HEAD from memory, and is terminal: no handler after it is called.
type Health struct {
	engine *pooledEngine
}

// CaddyModule returns the Caddy module information.
func (*Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.relay_health",
		New: func() caddy.Module { return new(Health) },
	}
}

// Provision finds the engine of the relay app.
func (h *Health) Provision(ctx caddy.Context) error {
	app, err := relayApp(ctx)
	if err != nil {
		return err
	}
	h.engine = app.pooled
	return nil
}

// ServeHTTP answers from memory.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeJSON(w, http.StatusMethodNotAllowed, &api.Error{Code: "method_not_allowed", Message: "Expected the method GET."})
		return nil
	}
	w.Header().Set("Cache-Control", "no-store")
	if _, ready := r.URL.Query()["ready"]; ready && shuttingDown(r) {
		unhealthy(w, "shutting_down", "The gateway is shutting down.")
		return nil
	}
	if err := h.engine.Takes(); err != nil {
		unhealthy(w, "unavailable", relay.Sentence(err))
		return nil
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

func unhealthy(w http.ResponseWriter, code, message string) {
	writeJSON(w, http.StatusServiceUnavailable, &api.Error{Code: code, Message: message})
}

// shuttingDown reports whether the process or the server of a request is about to stop.
func shuttingDown(r *http.Request) bool {
	if caddy.Exiting() {
		return true
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if _, served := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); !ok || !served {
		return false
	}
	closing, _ := repl.Get("http.shutting_down")
	return closing == true
}

// parseHealth reads the directive.
func parseHealth(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Health)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	relay_health [<matcher>]
func (*Health) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return nameOnly(d, "relay_health [<matcher>]")
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Health)(nil)
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
	_ caddyfile.Unmarshaler       = (*Health)(nil)
)
