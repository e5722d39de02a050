package caddymodule

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine/meter"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/callbackrelay/caddy-relay/relay"
)

// consumer is a downstream webhook.
type consumer struct {
	*httptest.Server
	got chan string // the bodies
}

// newConsumer answers with the given status.
func newConsumer(t *testing.T, status int) *consumer {
	t.Helper()
	c := &consumer{got: make(chan string, 64)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(status)
		c.got <- string(body)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *consumer) await(t *testing.T) string {
	t.Helper()
	select {
	case body := <-c.got:
		return body
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was delivered")
		return ""
	}
}

// to is a handler of one source that delivers to a URL, with some fields set otherwise.
func to(t *testing.T, url string, fields map[string]any) map[string]any {
	t.Helper()
	return handlerConfig(t, fields, map[string]any{"url": url, "retry": map[string]any{"off": true}, "breaker": map[string]any{"off": true}})
}

// eventually waits for what happens behind the callers' backs.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatal("in vain waited for: " + what)
		case <-tick.C:
		}
	}
}

// awaitPlaceholders waits for what the handler in front of the relay's has seen: a client may have its answer before that.
func awaitPlaceholders(t *testing.T, want map[string]string) {
	t.Helper()
	eventually(t, fmt.Sprintf("placeholders %v", want), func() bool {
		probed.Lock()
		defer probed.Unlock()
		for name, value := range want {
			if probed.placeholders[name] != value {
				return false
			}
		}
		return true
	})
}

func TestAcceptAndDeliver(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusNoContent)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	event := g.accept("vocals", "task-1")
	if body := c.await(t); !strings.Contains(body, `"task_id":"task-1"`) {
		t.Errorf("delivered: %s", body)
	}
	awaitPlaceholders(t, map[string]string{"source": "vocals", "event_id": event, "task_id": "task-1", "result": relay.ResultAccepted})
	if _, err := os.Stat(filepath.Join(g.dir, "caddy", "relay", "relay.db")); err != nil {
		t.Errorf("the store is not at the default path: %v", err)
	}

	if status, _ := g.call("vocals", "not JSON"); status != http.StatusBadRequest {
		t.Errorf("status %d", status)
	}
	awaitPlaceholders(t, map[string]string{"result": relay.ResultInvalid})
}

// TestReload keeps the engine and its open store, however much the settings change.
func TestReload(t *testing.T) {
	g := newGateway(t)
	a, b := newConsumer(t, http.StatusOK), newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, a.URL, nil))
	engine := activeApp(t).pooled
	store, err := engine.Store()
	if err != nil {
		t.Fatal(err)
	}
	g.accept("vocals", "task-1")
	a.await(t)

	// The same file by another path is the same store.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(g.dir, "caddy"), link); err != nil {
		t.Fatal(err)
	}
	g.mustLoad(`{"retention":"1h","store":{"driver":"sqlite","path":"`+filepath.Join(link, "relay", "relay.db")+`"}}`, to(t, b.URL, nil))
	if activeApp(t).pooled != engine {
		t.Fatal("the reload made another engine")
	}
	if again, err := engine.Store(); err != nil || again != store {
		t.Fatalf("the reload opened the store again: %v", err)
	}
	if refs, _ := engines.References(engine.identity); refs != 1 {
		t.Errorf("%d configs use the engine, expected 1", refs)
	}
	g.accept("vocals", "task-2")
	b.await(t)
}

// TestReloadInFlight lets an attempt go on while the config, and with it the destination's transport, is replaced.
func TestReloadInFlight(t *testing.T) {
	g := newGateway(t)
	begun, answer := make(chan struct{}, 8), make(chan struct{})
	c := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-answer
	}))
	defer c.Close()
	g.mustLoad(`{}`, to(t, c.URL, nil))
	id := g.accept("vocals", "task-1")
	<-begun
	g.mustLoad(`{"drain":"20s"}`, to(t, c.URL, nil))
	close(answer)
	eventually(t, "the delivery", func() bool {
		return mustAdmin(t, http.MethodGet, "/relay/events/"+id, "")["state"] == "delivered"
	})
	if n := len(begun); n != 0 {
		t.Errorf("%d more attempts were made", n)
	}
}

// TestRequestOutlivesConfig calls a handler whose engine has been closed.
func TestRequestOutlivesConfig(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	app := activeApp(t)
	h := &Handler{engine: app.pooled, source: app.sources["vocals"].source}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"code":200,"data":{"task_id":"a"}}`))
	r.Header.Set("Content-Type", "application/json")
	if err := h.ServeHTTP(w, r, nil); err != nil || w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d, %v", w.Code, err)
	}
}

// TestAllow goes by the address that Caddy determined.
func TestAllow(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, map[string]any{"allow": []string{"203.0.113.0/24", "2001:db8::1"}}))
	app := activeApp(t)
	h := &Handler{engine: app.pooled, source: app.sources["vocals"].source}
	for client, expected := range map[string]int{
		"203.0.113.9":        http.StatusOK,
		"::ffff:203.0.113.9": http.StatusOK,
		"2001:db8::1":        http.StatusOK,
		"2001:db8::2":        http.StatusForbidden,
		"192.0.2.1":          http.StatusForbidden,
		"@":                  http.StatusForbidden,
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"code":200,"data":{"task_id":"a"}}`))
		r.RemoteAddr = "203.0.113.1:1234" // the proxy's
		r.Header.Set("X-Forwarded-For", "203.0.113.2")
		r.Header.Set("Content-Type", "application/json")
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: client}))
		if err := h.ServeHTTP(w, r, nil); err != nil || w.Code != expected {
			t.Errorf("%s: status %d, %v, expected %d", client, w.Code, err, expected)
		}
	}
}

// TestFailedReload leaves the running config as it is, whether the new one fails to provision or to start.
func TestFailedReload(t *testing.T) {
	g := newGateway(t)
	a, b := newConsumer(t, http.StatusOK), newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, a.URL, nil))
	app := activeApp(t)

	bad := handlerConfig(t, nil, map[string]any{"rate": "fast"})
	elsewhere := filepath.Join(g.dir, "elsewhere.db")
	for name, reload := range map[string]func() error{
		"handler": func() error { return g.load(`{}`, nil, bad) },
		"app":     func() error { return g.load(`{"drain":"-1s"}`, nil, to(t, b.URL, nil)) },
		"store":   func() error { return g.load(`{"store":{"driver":"paper"}}`, nil, to(t, b.URL, nil)) },
		"start": func() error {
			return g.load(`{}`, map[string]any{"relay_test_fails": map[string]any{}}, to(t, b.URL, nil))
		},
		"another store": func() error {
			return g.load(`{"store":{"driver":"sqlite","path":"`+elsewhere+`"}}`, map[string]any{"relay_test_fails": map[string]any{}}, to(t, b.URL, nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Apps are provisioned and started in random order.
			for i := range 4 {
				if err := reload(); err == nil {
					t.Fatal("the config was loaded")
				}
				if activeApp(t) != app {
					t.Fatal("another app is active")
				}
				if refs, _ := engines.References(app.pooled.identity); refs != 1 {
					t.Fatalf("%d configs use the engine, expected 1", refs)
				}
				g.accept("vocals", name[:3]+string(rune('0'+i)))
				a.await(t)
			}
		})
	}
	if len(b.got) > 0 {
		t.Error("a config that failed got deliveries")
	}
}

// TestReloadToAFileThatCannotBeOpened keeps the store in use. Where Caddy had started its listeners already, it takes none of a Unix
// socket over again until it is started anew.
func TestReloadToAFileThatCannotBeOpened(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	before := activeApp(t).pooled
	file := filepath.Join(t.TempDir(), "text")
	writeFile(t, file, "no database")
	logBefore := len(logged())
	err := g.load(`{"store":{"driver":"sqlite","path":"`+file+`"}}`, nil, to(t, c.URL, nil))
	if err == nil || !strings.Contains(err.Error(), "the store sqlite:"+file+" cannot be opened, and "+before.identity+" stays in use: ") {
		t.Fatalf("got %v", err)
	}
	if lines := logged()[logBefore:]; strings.Contains(lines, "callbacks get 503") {
		t.Errorf("the log says that callbacks get 503: %s", lines)
	}
	if activeApp(t).pooled != before {
		t.Fatal("another store is in use")
	}
	g.accept("vocals", "task-1")
	c.await(t)
}

// TestReloadToAStoreThatIsAway uses it, as Redis may only be away for a while: its spool takes over, and the log has what
// happened and the way back.
func TestReloadToAStoreThatIsAway(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	before := activeApp(t).pooled
	spool := filepath.Join(t.TempDir(), "spool.db")
	g.mustLoad(`{"store":{"driver":"redis","addresses":["127.0.0.1:1"],"timeout":"100ms","spool":{"path":"`+spool+`"}}}`, to(t, c.URL, nil))
	for _, want := range []string{"the new one does not answer", "abandon_store", `"before":"` + before.identity + `"`} {
		if !strings.Contains(logged(), want) {
			t.Errorf("the log does not have %q", want)
		}
	}
	g.accept("vocals", "task-2")
	if err := g.load(`{}`, nil, to(t, c.URL, nil)); err == nil || !strings.Contains(err.Error(), "still holds 1 callbacks in its spool") {
		t.Errorf("back without abandon_store: %v", err)
	}
	g.mustLoad(`{"abandon_store":true}`, to(t, c.URL, nil))
	g.accept("vocals", "task-3")
	c.await(t)
}

// TestReloadWithTheSameSpool moves to another Redis with what waits in the spool, which the config before the reload has until
// it stops: the reload does not wait for that, and the spool is there again soon.
func TestReloadWithTheSameSpool(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	spool := filepath.Join(t.TempDir(), "spool.db")
	away := func(port int) string {
		return fmt.Sprintf(`{"abandon_store":true,"store":{"driver":"redis","addresses":["127.0.0.1:%d"],"timeout":"100ms","spool":{"path":"%s"}}}`, port, spool)
	}
	g.mustLoad(away(1), to(t, c.URL, nil))
	g.accept("vocals", "task-1")
	before, logBefore, start := activeApp(t).pooled, len(logged()), time.Now()
	g.mustLoad(away(2), to(t, c.URL, nil))
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("the reload took %s", took)
	}
	now := activeApp(t).pooled
	if now == before {
		t.Fatal("the reload kept the engine")
	}
	eventually(t, "the spool is open, with what waited in it", func() bool { return now.Spooled() == 1 })
	g.accept("vocals", "task-2")
	lines := logged()[logBefore:]
	for _, want := range []string{"spool is still in use by the config before this one", `"msg":"spool opened","path":"` + spool + `","events":1,"stuck":0`} {
		if strings.Count(lines, want) != 1 {
			t.Errorf("the log does not have %q once: %s", want, lines)
		}
	}
	g.mustLoad(`{"abandon_store":true}`, to(t, c.URL, nil))
}

// TestAbandonStore refuses to leave deliveries behind.
func TestAbandonStore(t *testing.T) {
	g := newGateway(t)
	first := `{"store":{"driver":"sqlite","path":"` + filepath.Join(g.dir, "first.db") + `"}}`
	second := func(abandon string) string {
		return `{"store":{"driver":"sqlite","path":"` + filepath.Join(g.dir, "second.db") + `"}` + abandon + `}`
	}
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(first, to(t, c.URL, nil))
	if err := activeApp(t).pooled.Pause(context.Background(), "vocals", "billing", true); err != nil {
		t.Fatal(err)
	}
	g.accept("vocals", "task-1")

	err := g.load(second(""), nil, to(t, c.URL, nil))
	if err == nil || !strings.Contains(err.Error(), "first.db still holds 1 deliveries") {
		t.Fatalf("got %v", err)
	}
	if what := activeApp(t).pooled.unsettled(); what != "1 deliveries that are not settled" {
		t.Errorf("it holds %q", what)
	}
	if err := g.load(second(`,"abandon_store":true`), nil, to(t, c.URL, nil)); err != nil {
		t.Fatal(err)
	}
	g.accept("vocals", "task-2")
	c.await(t)
	eventually(t, "the delivery to be settled", func() bool { return activeApp(t).pooled.unsettled() == "" })

	// Back again, where the delivery still waits.
	g.mustLoad(first, to(t, c.URL, nil))
	if what := activeApp(t).pooled.unsettled(); what != "1 deliveries that are not settled" {
		t.Errorf("it holds %q", what)
	}
}

// TestValidateBesides validates a config while another one runs with the same store.
func TestValidateBesides(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	if err := validate(t, serverConfig(nil, handlerConfig(t, nil, nil))); err != nil {
		t.Error(err)
	}
	g.accept("vocals", "task-1")
	c.await(t)
}

// subscribed is the events app with a handler of the relay app's dead letters.
func subscribed() map[string]any {
	return map[string]any{"events": map[string]any{"subscriptions": []any{map[string]any{
		"events": []string{eventDeadLetter}, "modules": []string{"relay"}, "handlers": []any{map[string]any{"handler": "relay_test"}},
	}}}}
}

// awaitDeadLetterEvent checks where the event came from.
func awaitDeadLetterEvent(t *testing.T) caddy.Event {
	t.Helper()
	select {
	case e := <-sunkEvents:
		if id := e.Origin().CaddyModule().ID; id != "relay" {
			t.Errorf("the event comes from %s", id)
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
		return caddy.Event{}
	}
}

// TestDeadLetterEvent hears of a dead letter through Caddy's events, however deep the first handler is in the config, and
// whatever is provisioned after the app.
func TestDeadLetterEvent(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusGone)
	handler := to(t, c.URL, nil)
	for depth := range 6 {
		if err := g.load(`{}`, subscribed(), handler); err != nil {
			t.Fatal(err)
		}
		task := fmt.Sprintf("task-%d", depth)
		id := g.accept("vocals", task)
		c.await(t)
		e := awaitDeadLetterEvent(t)
		for name, expected := range map[string]any{
			"event_id": id, "source": "vocals", "task_id": task, "destination": "billing", "attempts": 1, "last_status": 410,
		} {
			if got := e.Data[name]; got != expected {
				t.Errorf("%s: got %v, expected %v", name, got, expected)
			}
		}
		handler = map[string]any{"handler": "subroute", "routes": []any{
			map[string]any{"handle": []any{handler}},
			map[string]any{"handle": []any{map[string]any{"handler": "headers"}, map[string]any{"handler": "static_response"}}},
		}}
	}
}

// TestDeadLetterEventAtStop hears of what becomes a dead letter while a stop waits for attempts in flight.
func TestDeadLetterEventAtStop(t *testing.T) {
	g := newGateway(t)
	begun, answer := make(chan struct{}), make(chan struct{})
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-answer
		w.WriteHeader(http.StatusGone)
	}))
	defer c.Close()
	if err := g.load(`{"drain":"20s"}`, subscribed(), to(t, c.URL, nil)); err != nil {
		t.Fatal(err)
	}
	ctx := activeApp(t).ctx
	id := g.accept("vocals", "task-1")
	<-begun
	stopped := make(chan error)
	go func() { stopped <- caddy.Stop() }()
	<-ctx.Done() // all apps are stopped, and the config is cleaned up
	close(answer)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if e := awaitDeadLetterEvent(t); e.Data["event_id"] != id || e.Data["last_status"] != http.StatusGone {
		t.Errorf("got %v", e.Data)
	}
}

// TestFailedFinish has a config fail when all its apps have started; Caddy cleans it up without stopping them.
func TestFailedFinish(t *testing.T) {
	g := newGateway(t)
	a, b := newConsumer(t, http.StatusOK), newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, a.URL, nil))
	g.admin["config"] = map[string]any{"persist": false, "load": map[string]any{"module": "none"}}
	if err := g.load(`{}`, nil, to(t, b.URL, nil)); err == nil {
		t.Fatal("the config was loaded")
	}
	engine := activeApp(t).pooled
	if refs, _ := engines.References(engine.identity); refs != 1 {
		t.Errorf("%d configs use the engine, expected 1", refs)
	}
	g.accept("vocals", "task-1")
	a.await(t)
}

// TestMetrics counts on through a reload, and in one that fails.
func TestMetrics(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, map[string]any{"source": "measured"}))
	g.accept("measured", "task-1")
	if n := acceptedCallbacks(t, "measured"); n != 1 {
		t.Errorf("%v callbacks, expected 1", n)
	}
	g.mustLoad(`{"drain":"5s"}`, to(t, c.URL, map[string]any{"source": "measured"}))
	g.accept("measured", "task-2")
	if err := g.load(`{"drain":"-5s"}`, nil); err == nil {
		t.Fatal("the config was loaded")
	}
	g.accept("measured", "task-3")
	if n := acceptedCallbacks(t, "measured"); n != 3 {
		t.Errorf("%v callbacks, expected 3", n)
	}
}

func acceptedCallbacks(t *testing.T, source string) float64 {
	t.Helper()
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "caddy_relay_callbacks_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, map[string]string{"source": source, "result": relay.ResultAccepted}) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func hasLabels(m *dto.Metric, labels map[string]string) bool {
	found := 0
	for _, l := range m.GetLabel() {
		if labels[l.GetName()] == l.GetValue() {
			found++
		}
	}
	return found == len(labels)
}

// TestRegisterMetrics registers in the order of a config: admin router, then app. Foreign collectors of the same name fail.
func TestRegisterMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for range 2 {
		if err := registerMetrics(registry); err != nil {
			t.Fatal(err)
		}
	}
	registry = prometheus.NewPedanticRegistry()
	registry.MustRegister(meter.New())
	if err := registerMetrics(registry); err == nil {
		t.Error("another collector was taken for the process's own")
	}
}
