package caddymodule

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gofrs/flock"

	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// wantShown checks the driver of the store that the status shows, whether it is up, and the names of the sources. It returns
// the store.
func wantShown(t *testing.T, driver string, up bool, sources ...string) map[string]any {
	t.Helper()
	status := mustAdmin(t, http.MethodGet, "/relay/status", "")
	store := status["store"].(map[string]any)
	var names []string
	for _, s := range status["sources"].([]any) {
		names = append(names, s.(map[string]any)["name"].(string))
	}
	if store["driver"] != driver || store["up"] != up || !slices.Equal(names, sources) {
		t.Errorf("the status shows %v with the sources %v; expected %s, up %v, and %v", store, names, driver, up, sources)
	}
	return store
}

// wantNoneShown fails the test where the admin API shows anything of a relay.
func wantNoneShown(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/relay/status", "/relay/rejections", "/relay/stream", "/relay/doctor"} {
		if status, answer := admin(t, http.MethodGet, path, ""); status != http.StatusServiceUnavailable || answer["error"] != "not_configured" {
			t.Errorf("%s: status %d, %v", path, status, answer)
		}
	}
}

// TestShownAtTheFirstStart waits for a file that another process has. The admin API shows the config that starts, and why
// nothing can be read yet.
func TestShownAtTheFirstStart(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	file := filepath.Join(t.TempDir(), "relay.db")
	other := flock.New(file + ".lock") // as another process would, of which nothing is known here
	if locked, err := other.TryLock(); !locked || err != nil {
		t.Fatal(locked, err)
	}
	t.Cleanup(func() { _ = other.Close() })
	loaded := make(chan error, 1)
	go func() {
		loaded <- g.load(`{"store":{"driver":"sqlite","path":"`+file+`"}}`, nil, to(t, c.URL, map[string]any{"ack_within": "1s"}))
	}()
	eventually(t, "the start is shown", func() bool {
		status, _ := admin(t, http.MethodGet, "/relay/status", "")
		return status == http.StatusOK
	})

	const opening = "it is still being opened"
	store := wantShown(t, "sqlite", false, "vocals")
	if store["location"] != file || store["unread"] != true || !strings.Contains(store["error"].(string), opening) {
		t.Errorf("the store is %v", store)
	}
	if destination := first(t, mustAdmin(t, http.MethodGet, "/relay/status", ""), "destinations"); destination["name"] != "billing" || destination["state"] != "active" {
		t.Errorf("the destination is %v", destination)
	}
	if list := mustAdmin(t, http.MethodGet, "/relay/rejections", "")["rejections"].([]any); len(list) != 0 {
		t.Errorf("rejections: %v", list)
	}
	if checks := mustAdmin(t, http.MethodGet, "/relay/doctor", ""); checks["ok"] != false {
		t.Errorf("the doctor finds nothing: %v", checks)
	}
	for _, e := range []struct{ method, path, body, code string }{
		{"GET", "/relay/events", "", "store_unavailable"},
		{"GET", "/relay/events/x", "", "store_unavailable"},
		{"GET", "/relay/events.jsonl", "", "store_unavailable"},
		{"GET", "/relay/dead-letters", "", "store_unavailable"},
		{"GET", "/relay/tasks", "", "store_unavailable"},
		{"GET", "/relay/stream?since=01ARZ3NDEKTSV4RRFFQ69G5FAV", "", "store_unavailable"},
		{"POST", "/relay/destinations/vocals/billing/pause", "", "store_unavailable"},
		{"POST", "/relay/dead-letters/redrive", `{"all":true}`, "store_unavailable"},
		{"POST", "/relay/send", `{"source":"vocals"}`, "unavailable"}, // after it has waited as a callback does
	} {
		status, answer := admin(t, e.method, e.path, e.body)
		if message, _ := answer["message"].(string); status != http.StatusServiceUnavailable || answer["error"] != e.code || !strings.Contains(message, opening) {
			t.Errorf("%s %s: status %d, %v", e.method, e.path, status, answer)
		}
	}
	app, err := shownApp()
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	health := &Health{engine: app.pooled}
	if err := health.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), nil); err != nil || w.Code != http.StatusServiceUnavailable {
		t.Errorf("health: status %d, %v", w.Code, err)
	}

	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	wantShown(t, "sqlite", true, "vocals")
	g.accept("vocals", "task-1")
	c.await(t)
}

// TestShownAfterAFirstStartThatFailed shows nothing of the config, be it refused for its store, or for another app.
func TestShownAfterAFirstStartThatFailed(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	held := filepath.Join(t.TempDir(), "relay.db")
	store, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: held})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := g.load(`{"store":{"driver":"sqlite","path":"`+held+`"}}`, nil, to(t, c.URL, nil)); err == nil || !strings.Contains(err.Error(), "opening the store sqlite:"+held) {
		t.Fatalf("got %v", err)
	}
	wantNoneShown(t)
	for range 4 { // apps are started in random order
		if err := g.load(`{}`, map[string]any{"relay_test_fails": map[string]any{}}, to(t, c.URL, nil)); err == nil {
			t.Fatal("the config was loaded")
		}
		wantNoneShown(t)
	}
	g.mustLoad(`{}`, to(t, c.URL, nil))
	wantShown(t, "sqlite", true, "vocals")
}

// TestShownDuringAReload shows the config in use until the new one, which waits for a Redis that never answers, has started.
func TestShownDuringAReload(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	g.mustLoad(`{}`, to(t, c.URL, nil))
	loaded := make(chan error, 1)
	go func() {
		loaded <- g.load(`{"store":{"driver":"redis","addresses":["`+silent.Addr().String()+`"],"timeout":"20s","spool":{"off":true}}}`, nil,
			to(t, c.URL, map[string]any{"source": "covers"}))
	}()
	waiting, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	wantShown(t, "sqlite", true, "vocals")
	mustAdmin(t, http.MethodGet, "/relay/events", "")
	if status, answer := admin(t, http.MethodPost, "/relay/send", `{"source":"covers"}`); status != http.StatusNotFound {
		t.Errorf("a source of the new config: status %d, %v", status, answer)
	}
	_, _ = silent.Close(), waiting.Close()
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	wantShown(t, "redis", false, "covers")
}
