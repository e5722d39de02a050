package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The modules below let tests see what Caddy sees.

func init() {
	caddy.RegisterModule(new(probe))
	caddy.RegisterModule(new(failingApp))
	caddy.RegisterModule(new(eventSink))
	caddy.RegisterModule(new(logSink))
}

// probe is a middleware that keeps the placeholders of the last request.
type probe struct{}

var probed = struct {
	sync.Mutex
	placeholders map[string]string
}{}

func (*probe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.relay_test_probe", New: func() caddy.Module { return new(probe) }}
}

func (*probe) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err := next.ServeHTTP(w, r)
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	probed.Lock()
	defer probed.Unlock()
	probed.placeholders = map[string]string{}
	for _, name := range []string{"source", "event_id", "task_id", "result"} {
		probed.placeholders[name], _ = repl.GetString("http.relay." + name)
	}
	return err
}

// failingApp makes a config fail when it starts.
type failingApp struct{}

func (*failingApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "relay_test_fails", New: func() caddy.Module { return new(failingApp) }}
}

func (*failingApp) Start() error { return errors.New("this app never starts") }
func (*failingApp) Stop() error  { return nil }

// eventSink is an event handler that hands events to the test.
type eventSink struct{}

var sunkEvents = make(chan caddy.Event, 16)

func (*eventSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.relay_test", New: func() caddy.Module { return new(eventSink) }}
}

func (*eventSink) Handle(_ context.Context, e caddy.Event) error {
	sunkEvents <- e
	return nil
}

// logSink keeps what is logged.
type logSink struct{}

var sunkLogs = struct {
	sync.Mutex
	bytes.Buffer
}{}

func logged() string {
	sunkLogs.Lock()
	defer sunkLogs.Unlock()
	return sunkLogs.String()
}

func (*logSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.relay_test", New: func() caddy.Module { return new(logSink) }}
}

func (*logSink) String() string                        { return "relay_test" }
func (*logSink) WriterKey() string                     { return "relay_test" }
func (l *logSink) OpenWriter() (io.WriteCloser, error) { return l, nil }
func (*logSink) Close() error                          { return nil }
func (*logSink) Write(b []byte) (int, error) {
	sunkLogs.Lock()
	defer sunkLogs.Unlock()
	return sunkLogs.Write(b)
}

// gateway is a running Caddy whose HTTP server listens on a Unix socket, so that tests need no port.
type gateway struct {
	t      *testing.T
	dir    string
	client *http.Client
	admin  map[string]any // the config of Caddy's admin endpoint
	server map[string]any // more of the HTTP server's
}

// newGateway prepares a gateway; load starts it.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: dataDir(t), admin: map[string]any{"disabled": true, "config": map[string]any{"persist": false}}}
	// A reload closes idle connections, and a POST is not repeated on another one: each request dials.
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.socket())
	}}
	g.client = &http.Client{Transport: redialing{transport}}
	t.Setenv("RELAY_TEST_SOCKET", filepath.Join(t.TempDir(), "http"))
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		engines.Range(func(key, _ any) bool {
			t.Errorf("the engine of %v is still in use", key)
			return true
		})
	})
	return g
}

// redialing sends a request again whose connection was closed without an answer: a server that a reload shuts down closes
// connections that it has just accepted and not read from.
type redialing struct{ *http.Transport }

func (t redialing) RoundTrip(r *http.Request) (*http.Response, error) {
	for try := 0; ; try++ {
		res, err := t.Transport.RoundTrip(r)
		if try == 5 || !errors.Is(err, io.EOF) || r.Body != nil && r.GetBody == nil {
			return res, err
		}
		if r.GetBody != nil {
			r = r.Clone(r.Context())
			r.Body, _ = r.GetBody() // of a reader in memory
		}
	}
}

func (g *gateway) socket() string { return os.Getenv("RELAY_TEST_SOCKET") }

// load loads a config with this relay app, these handlers and other apps.
func (g *gateway) load(app string, others map[string]any, handlers ...map[string]any) error {
	g.t.Helper()
	var routes []any
	for _, h := range handlers {
		path := "/*" // of what is no source itself
		if source, ok := h["source"].(string); ok {
			path = "/" + source
		}
		routes = append(routes, map[string]any{
			"match":  []any{map[string]any{"path": []string{path}}},
			"handle": []any{map[string]any{"handler": "relay_test_probe"}, h},
		})
	}
	server := map[string]any{
		"listen": []string{"unix/" + g.socket()}, "routes": routes, "automatic_https": map[string]any{"disable": true},
	}
	maps.Copy(server, g.server)
	apps := map[string]any{
		"relay": json.RawMessage(app),
		"http":  map[string]any{"grace_period": "5s", "servers": map[string]any{"srv0": server}},
	}
	maps.Copy(apps, others)
	config, err := json.Marshal(map[string]any{
		"admin":   g.admin,
		"logging": map[string]any{"logs": map[string]any{"default": map[string]any{"writer": map[string]any{"output": "relay_test"}}}},
		"apps":    apps,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return caddy.Load(config, true)
}

// mustLoad fails the test where the config does not load.
func (g *gateway) mustLoad(app string, handlers ...map[string]any) {
	g.t.Helper()
	if err := g.load(app, nil, handlers...); err != nil {
		g.t.Fatal(err)
	}
}

// call sends a callback and gives the status and the event's id.
func (g *gateway) call(source, body string) (status int, event string) {
	g.t.Helper()
	res, err := g.client.Post("http://gateway/"+source, "application/json", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header.Get("Relay-Event-Id")
}

// accept sends a callback that must be accepted.
func (g *gateway) accept(source, task string) (event string) {
	g.t.Helper()
	status, event := g.call(source, `{"code":200,"msg":"ok","data":{"task_id":"`+task+`","vocal_removal_info":{"vocal_url":"https://files.example.com/v.mp3"}}}`)
	if status != http.StatusOK || event == "" {
		g.t.Fatalf("status %d, event %q", status, event)
	}
	return event
}

// activeApp is the relay app of the running config.
func activeApp(t *testing.T) *App {
	t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("relay")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*App)
}

// Interface guards
var (
	_ caddyhttp.MiddlewareHandler = (*probe)(nil)
	_ caddyevents.Handler         = (*eventSink)(nil)
	_ caddy.WriterOpener          = (*logSink)(nil)
	_ caddy.App                   = (*failingApp)(nil)
)
