package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler accepts the callbacks of one source: it answers once a callback is stored durably, and the `relay` app delivers
// it to the source's destinations. It is terminal: no handler after it is called.
//
// It sets these placeholders:
//
// Placeholder | Description
// ------------|-------------
// `{http.relay.source}` | The name of the source
// `{http.relay.event_id}` | The id of the event that the callback became, or is a duplicate of
// `{http.relay.task_id}` | The provider's id of the task
// `{http.relay.result}` | What became of the callback: accepted, unmatched, duplicate, conflict, spooled, denied, unverified, invalid, too_large or unavailable
type Handler struct {
	// The name of the source. Several handlers may serve one source if their settings are the same.
	Source string `json:"source,omitempty"`

	// Whose callbacks they are. Default: `{"name": "suno"}`.
	ProviderRaw json.RawMessage `json:"provider,omitempty" caddy:"namespace=relay.providers inline_key=name"`

	// What a callback may be: json, an object in JSON; form, application/x-www-form-urlencoded, whose fields are one flat
	// object for paths and `when`; or any, whatever comes, of which as much is read as is JSON. Of another Content-Type a
	// callback gets 415. Destinations get the bytes and the Content-Type as they came, or none if there was none.
	// Default: json.
	Body string `json:"body,omitempty"`

	// Who may call: IP addresses, CIDR ranges, or private_ranges. Anyone else gets 403. Default: everyone may.
	Allow []string `json:"allow,omitzero"`

	// Who else may call, by Caddy's modules that list addresses. A list may be another one at each request. While it is
	// empty, it allows nobody. Default: none.
	AllowFromRaw []json.RawMessage `json:"allow_from,omitzero" caddy:"namespace=http.ip_sources inline_key=source"`

	// Whether anyone else is refused (enforce), or let in all the same, logged and counted as denied_observed (observe).
	// Default: enforce.
	AllowMode string `json:"allow_mode,omitempty"`

	// How a caller proves who it is; each of them must pass. Default: nothing is verified.
	VerifyRaw []json.RawMessage `json:"verify,omitzero" caddy:"namespace=relay.verifiers inline_key=verifier"`

	// What makes two callbacks the same: task_id, stage, code, path:<gjson path into the body>, header:<name>.
	// Default: task_id, stage, code.
	Dedupe []string `json:"dedupe,omitempty"`

	// How long a callback is recognised as a duplicate, from the first one. Default: 24h.
	DedupeWindow Duration `json:"dedupe_window,omitempty"`

	// What becomes of a callback that has the key of an earlier one and says something else: another code, stage or file.
	// With keep it is kept as a variant of the earlier one's event, and not delivered. With deliver it is an event of its
	// own, delivered with the header Relay-Conflict-With, which names the earlier one; that suits verified senders whose
	// tasks call back with new results under one id. Default: keep.
	Conflict string `json:"conflict,omitempty"`

	// The largest body accepted, in bytes. At most 32 MiB. Default: 4194304 (4 MiB).
	MaxBody int64 `json:"max_body,omitempty"`

	// The latest time to answer at, the reading of the body included. At most 14s, since the sender waits for 15.
	// Default: 10s.
	AckWithin Duration `json:"ack_within,omitempty"`

	// The answer to an accepted callback. Default: status 200 with the body `{"status":"received"}`.
	Respond *Response `json:"respond,omitempty"`

	// Where the events go: at least one.
	Destinations []*Destination `json:"destinations,omitempty"`

	// How results are asked for whose callback has not come. Default: they are not.
	Recover *Recover `json:"recover,omitempty"`

	// Where copies of the files go that callbacks name. It is a destination of its own kind, with the name archive.
	// Default: none, files stay where they are.
	ArchiveRaw json.RawMessage `json:"archive,omitempty" caddy:"namespace=relay.archives inline_key=storage"`

	engine *pooledEngine
	source *relay.Source
}

// Response is the answer to an accepted callback.
type Response struct {
	// A 2xx status. Default: 200; others make a provider that insists on 200 send its callback again.
	Status int `json:"status,omitempty"`

	// The body; JSON is sent as application/json, anything else as text/plain. Default: none, unless the whole
	// answer is the default one.
	Body string `json:"body,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.relay",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision registers the handler's source with the app.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.expandPreset(); err != nil {
		return fmt.Errorf("source %q: %w", h.Source, err)
	}
	canonical, err := canonicalJSON(h)
	if err != nil {
		return err
	}
	app, err := relayApp(ctx)
	if err != nil {
		return err
	}
	return places.locate(canonical, h.register(ctx, app, canonical))
}

func (h *Handler) register(ctx caddy.Context, app *App, canonical []byte) (err error) {
	if name := h.allowedBy(); name != "" {
		if err := checkForgeable(ctx); err != nil {
			return fmt.Errorf("source %q: %s: %w", h.Source, name, err)
		}
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		app.inspect(server)
	}
	h.engine = app.pooled
	h.source, err = app.register(h.Source, canonical, func() (*relay.Source, error) { return h.build(ctx) })
	return err
}

// ServeHTTP receives the callback and answers it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	receipt := h.engine.Receive(w, r, h.source, clientAddr(r))

	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(func(key string) (any, bool) { return h.placeholder(key, &receipt) })
	}
	return nil
}

// placeholder returns the value of a placeholder for whoever asks, which is seldom anyone.
func (h *Handler) placeholder(key string, receipt *intake.Receipt) (any, bool) {
	switch key {
	case "http.relay.source":
		return h.source.Name, true
	case "http.relay.event_id":
		return receipt.EventID, true
	case "http.relay.task_id":
		return receipt.TaskID, true
	case "http.relay.result":
		return receipt.Result, true
	}
	return nil, false
}

// allowedBy returns the name of the field that lists who may call; empty if everyone may.
func (h *Handler) allowedBy() string {
	switch {
	case len(h.Allow) > 0:
		return "allow"
	case len(h.AllowFromRaw) > 0:
		return "allow_from"
	}
	return ""
}

// clientAddr is the caller's address as the server determined it by its trusted proxies.
func clientAddr(r *http.Request) netip.Addr {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Addr{} // unknown, as on a Unix socket
	}
	return addr
}

// canonicalJSON is equal for configurations that say the same.
func canonicalJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	// Modules are kept as they were written: decoding and encoding sorts their keys. Numbers stay as they are.
	var value any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
