package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/relay"
)

func init() {
	caddy.RegisterModule(new(Submit))
	httpcaddyfile.RegisterHandlerDirective("relay_submit", parseSubmit)
	httpcaddyfile.RegisterDirectiveOrder("relay_submit", httpcaddyfile.Before, "reverse_proxy")
}

// Submit is for requests that submit tasks to a provider; it stands before the reverse_proxy that sends them there. Into the
// JSON object of a POST request it puts the callback URL, and if the source has `recover`, it registers the task that a
// successful answer names as expected, before the application sees the answer.
//
// Other methods and other content types pass untouched. A body over 1 MiB, with a Content-Encoding, or that is no JSON object
// is refused with 413, 415 and 400. Answers pass unchanged; one of up to 64 KiB is held back until its task is registered, for
// 5 seconds at most.
type Submit struct {
	// The name of the source that the callbacks come to. A relay handler must define it.
	Source string `json:"source,omitempty"`

	// Where the provider is to send callbacks: http or https. Placeholders: {env.*} and {file.*}. Required.
	CallbackURL string `json:"callback_url,omitempty"`

	callback []byte // the URL as a JSON string
	source   func() *relay.Source
	tasks    expecter
	logger   *slog.Logger
}

// CaddyModule returns the Caddy module information.
func (*Submit) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.relay_submit",
		New: func() caddy.Module { return new(Submit) },
	}
}

// Provision resolves the callback URL, and looks for the source.
func (s *Submit) Provision(ctx caddy.Context) error {
	canonical, err := canonicalJSON(s)
	if err != nil {
		return err
	}
	return places.locate(canonical, s.provision(ctx))
}

func (s *Submit) provision(ctx caddy.Context) error {
	if err := checkSourceName(s.Source); err != nil {
		return fmt.Errorf("relay_submit: source: %w", err)
	}
	if s.CallbackURL == "" {
		return fmt.Errorf("relay_submit %s: %w", s.Source, errNoCallbackURL)
	}
	url, err := resolveURL(s.CallbackURL)
	if err != nil {
		return fmt.Errorf("relay_submit %s: callback_url: %w", s.Source, err)
	}
	if s.callback, err = quote(url.String()); err != nil {
		return err
	}
	app, err := relayApp(ctx)
	if err != nil {
		return err
	}
	if err := app.submits(ctx, s.Source); err != nil {
		return fmt.Errorf("relay_submit %s: %w", s.Source, err)
	}
	s.source = func() *relay.Source { return app.source(s.Source) }
	s.tasks = app.pooled
	s.logger = app.pooled.Logger(ctx.Slogger())
	warnOfLiteralQuery(ctx.Slogger(), "callback_url", s.CallbackURL, "source", s.Source)
	return nil
}

// ServeHTTP changes the request, and reads its answer.
func (s *Submit) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !submits(r) {
		return next.ServeHTTP(w, r)
	}
	api := submittedTo(r)
	if refused := s.rewrite(w, r, api); refused != nil {
		writeError(w, r, refused)
		return nil
	}
	source := s.source()
	if source == nil || source.Recover == nil {
		return next.ServeHTTP(w, r)
	}
	answer := &heldAnswer{ResponseWriter: w, encoded: func() { s.unread(source) }, read: func(body []byte) {
		s.expect(r.Context(), source, api, body)
	}}
	// It is deferred because an answer that breaks off may have named its task, and passes as far as it came.
	defer answer.finish()
	return next.ServeHTTP(answer, r)
}

// quote returns a text as JSON.
func quote(s string) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // an ampersand stays readable
	err := encoder.Encode(s)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

var errNoCallbackURL = errors.New("expected where callbacks are sent: callback_url <url>")

// parseSubmit reads the directive.
func parseSubmit(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Submit)
	canonical, err := readDirective(h, handler)
	if err != nil {
		return nil, err
	}
	noteHandler(h, canonical)
	return handler, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	relay_submit [<matcher>] <source> {
//	    callback_url <url>
//	}
func (s *Submit) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	start := here(d)
	args, err := arguments(d, "relay_submit [<matcher>] <source> { callback_url <url> }", 1, 1)
	if err != nil {
		return err
	}
	s.Source = args[0]
	if err := checkSourceName(s.Source); err != nil {
		return d.Errf("source: %w", err)
	}
	for d.NextBlock(0) {
		if d.Val() != "callback_url" {
			return errUnknown(d, "callback_url")
		}
		if err := setText(d, "callback_url <url>", &s.CallbackURL, func(text string) error { return checkURL(text, nil) }); err != nil {
			return err
		}
	}
	if s.CallbackURL == "" {
		return start.errf("relay_submit %s: %w", s.Source, errNoCallbackURL)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Submit)(nil)
	_ caddyhttp.MiddlewareHandler = (*Submit)(nil)
	_ caddyfile.Unmarshaler       = (*Submit)(nil)
)
