package caddymodule

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// admin sends a request to the admin routes as Caddy's endpoint serves them, and decodes the answer.
func admin(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	adminMux(t).ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s %s: Content-Type %q", method, path, got)
	}
	if w.Code == http.StatusMethodNotAllowed && w.Header().Get("Allow") == "" {
		t.Errorf("%s %s: no Allow", method, path)
	}
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	return w.Code, answer
}

// mustAdmin fails the test where the answer is not 200.
func mustAdmin(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	status, answer := admin(t, method, path, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s: status %d, %v", method, path, status, answer)
	}
	return answer
}

func keys(t *testing.T, what string, v any, expected ...string) {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is %T", what, v)
	}
	for _, k := range expected {
		if _, ok := m[k]; !ok {
			t.Errorf("%s has no %q: %v", what, k, m)
		}
	}
	if len(m) != len(expected) {
		t.Errorf("%s has other keys than %v: %v", what, expected, m)
	}
}

// first returns the first element of a list in an answer.
func first(t *testing.T, answer map[string]any, name string) map[string]any {
	t.Helper()
	list, ok := answer[name].([]any)
	if !ok || len(list) == 0 {
		t.Fatalf("no %s in %v", name, answer)
	}
	return list[0].(map[string]any)
}

func TestAdminWithoutRelay(t *testing.T) {
	status, answer := admin(t, http.MethodGet, "/relay/status", "")
	if status != http.StatusServiceUnavailable || answer["error"] != "not_configured" {
		t.Errorf("status %d, %v", status, answer)
	}
}

func TestAdminEvents(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusGone)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	id := g.accept("vocals", "task-1")
	c.await(t)
	show := "/relay/events/" + id
	eventually(t, "the event to be dead", func() bool { return mustAdmin(t, http.MethodGet, show, "")["state"] == "dead" })
	// The same task with another file is a conflict, and the very same body a duplicate.
	conflict := `{"code":200,"data":{"task_id":"task-1","vocal_removal_info":{"vocal_url":"https://files.example.com/<other>.mp3"}}}`
	for range 2 {
		if _, again := g.call("vocals", conflict); again != id {
			t.Fatalf("another event: %s", again)
		}
	}

	event := mustAdmin(t, http.MethodGet, show, "")
	keys(t, "event", event, "id", "source", "task_id", "stage", "code", "key", "origin", "received_at", "duplicates", "conflicts",
		"state", "deliveries", "variants", "headers", "payload", "files")
	delivery := first(t, event, "deliveries")
	keys(t, "delivery", delivery, "destination", "state", "tries", "attempts", "dead_at")
	keys(t, "attempt", first(t, delivery, "attempts"), "at", "duration_ms", "status", "error", "response")
	keys(t, "variant", first(t, event, "variants"), "n", "received_at", "headers", "payload")
	if event["id"] != id || event["task_id"] != "task-1" || event["code"] != "200" || event["origin"] != "callback" || len(event["key"].(string)) != 64 {
		t.Errorf("event: %v", event)
	}
	if files := event["files"].([]any); len(files) != 1 || files[0] != "https://files.example.com/v.mp3" {
		t.Errorf("files: %v", files)
	}
	if payload := event["payload"].(map[string]any); payload["msg"] != "ok" {
		t.Errorf("payload: %v", payload)
	}
	if delivery["state"] != "dead" || delivery["tries"] != 1.0 || first(t, delivery, "attempts")["status"] != 410.0 {
		t.Errorf("delivery: %v", delivery)
	}

	g.accept("vocals", "task-2")
	c.await(t)
	page := mustAdmin(t, http.MethodGet, "/relay/events?limit=1&source=vocals", "")
	newest := first(t, page, "events")
	keys(t, "event of a list", newest, "id", "source", "task_id", "stage", "code", "key", "origin", "received_at", "duplicates", "conflicts",
		"state", "deliveries")
	if newest["task_id"] != "task-2" || page["next"] == "" {
		t.Errorf("page: %v", page)
	}
	page = mustAdmin(t, http.MethodGet, "/relay/events?limit=1&source=vocals&cursor="+page["next"].(string), "")
	if first(t, page, "events")["id"] != id {
		t.Errorf("second page: %v", page)
	}
	page = mustAdmin(t, http.MethodGet, "/relay/events?task_id=none", "")
	if list := page["events"].([]any); len(list) != 0 || page["next"] != "" {
		t.Errorf("empty page: %v", page)
	}
}

// TestAdminOperations replays, pauses, redrives and discards.
func TestAdminOperations(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusGone)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	id := g.accept("vocals", "task-1")
	c.await(t)
	dead := func() bool {
		return mustAdmin(t, http.MethodGet, "/relay/events/"+id, "")["state"] == "dead"
	}
	eventually(t, "the event to be dead", dead)

	letter := first(t, mustAdmin(t, http.MethodGet, "/relay/dead-letters?source=vocals&destination=billing", ""), "dead_letters")
	keys(t, "dead letter", letter, "event_id", "source", "task_id", "destination", "attempts", "last_status", "last_error", "dead_at")
	if letter["event_id"] != id || letter["last_status"] != 410.0 {
		t.Errorf("dead letter: %v", letter)
	}

	if got := mustAdmin(t, http.MethodPost, "/relay/events/"+id+"/replay", `{"destinations":["billing"]}`); got["replayed"] != 1.0 || got["skipped"] != 0.0 {
		t.Errorf("replay: %v", got)
	}
	c.await(t)
	eventually(t, "the event to be dead again", dead)

	got := mustAdmin(t, http.MethodPost, "/relay/destinations/vocals/billing/pause", "")
	if got["paused"] != true || got["source"] != "vocals" || got["destination"] != "billing" {
		t.Errorf("pause: %v", got)
	}
	if got := mustAdmin(t, http.MethodPost, "/relay/dead-letters/redrive", `{"source":"vocals","rate":"10/s"}`); got["redriven"] != 1.0 {
		t.Errorf("redrive: %v", got)
	}
	delivery := first(t, mustAdmin(t, http.MethodGet, "/relay/events/"+id, ""), "deliveries")
	if _, due := delivery["next_attempt_at"]; delivery["state"] != "paused" || due {
		t.Errorf("paused delivery: %v", delivery)
	}
	if state := first(t, mustAdmin(t, http.MethodGet, "/relay/status", ""), "destinations")["state"]; state != "paused" {
		t.Errorf("status: %v", state)
	}
	if got := mustAdmin(t, http.MethodPost, "/relay/destinations/vocals/billing/resume", "{}"); got["paused"] != false {
		t.Errorf("resume: %v", got)
	}
	c.await(t)
	eventually(t, "the event to be dead once more", dead)

	if got := mustAdmin(t, http.MethodPost, "/relay/dead-letters/discard", `{"source":"vocals","destination":"billing"}`); got["discarded"] != 1.0 {
		t.Errorf("discard: %v", got)
	}
	if list := mustAdmin(t, http.MethodGet, "/relay/dead-letters", "")["dead_letters"].([]any); len(list) != 0 {
		t.Errorf("dead letters: %v", list)
	}
}

// TestAdminOrphans shows deliveries whose destination left the config.
func TestAdminOrphans(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	mustAdmin(t, http.MethodPost, "/relay/destinations/vocals/billing/pause", "")
	id := g.accept("vocals", "task-1")
	g.mustLoad(`{}`, handlerConfig(t, nil, map[string]any{"name": "invoices", "url": c.URL}))
	delivery := first(t, mustAdmin(t, http.MethodGet, "/relay/events/"+id, ""), "deliveries")
	if delivery["state"] != "orphaned" {
		t.Errorf("delivery: %v", delivery)
	}
	if got := mustAdmin(t, http.MethodPost, "/relay/dead-letters/discard", `{"source":"vocals","destination":"invoices","orphaned":true}`); got["discarded"] != 0.0 {
		t.Errorf("discard of a destination that is configured: %v", got)
	}
	if got := mustAdmin(t, http.MethodPost, "/relay/dead-letters/discard", `{"all":true,"orphaned":true}`); got["discarded"] != 1.0 {
		t.Errorf("discard: %v", got)
	}
}

// TestQueryOneOf names every value that is allowed, so that whoever misspelt one can correct it.
func TestQueryOneOf(t *testing.T) {
	for state, want := range map[string]string{"": "", "dead": "", "held": "state: expected one of pending, dead."} {
		q := parseQuery(httptest.NewRequest(http.MethodGet, "/relay/events?state="+state, http.NoBody), "state")
		if q.oneOf("state", "pending", "dead") != state {
			t.Errorf("%q is not returned", state)
		}
		var got string
		if q.err != nil {
			got = q.err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, not %q", state, got, want)
		}
	}
}

func TestAdminErrors(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	id := g.accept("vocals", "task-1")
	c.await(t)
	for _, e := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/relay/", "", 404, "not_found"},
		{"GET", "/relay/nothing", "", 404, "not_found"},
		{"POST", "/relay/status", "", 405, "method_not_allowed"},
		{"GET", "/relay/status?verbose=1", "", 400, "bad_request"},
		{"DELETE", "/relay/events", "", 405, "method_not_allowed"},
		{"GET", "/relay/events?limit=0", "", 400, "bad_request"},
		{"GET", "/relay/events?limit=-1", "", 400, "bad_request"},
		{"GET", "/relay/events?limit=ten", "", 400, "bad_request"},
		{"GET", "/relay/events?state=held", "", 400, "bad_request"},
		{"GET", "/relay/events?since=yesterday", "", 400, "bad_request"},
		{"GET", "/relay/events?until=1700000000", "", 400, "bad_request"},
		{"GET", "/relay/events?task=x", "", 400, "bad_request"},
		{"GET", "/relay/events?source=a&source=b", "", 400, "bad_request"},
		{"GET", "/relay/events?source=%zz", "", 400, "bad_request"},
		{"GET", "/relay/events?cursor=bad", "", 400, "bad_cursor"},
		{"PUT", "/relay/events/" + id, "", 405, "method_not_allowed"},
		{"GET", "/relay/events/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", 404, "not_found"},
		{"GET", "/relay/events/x", "", 404, "not_found"},
		{"GET", "/relay/events/" + id + "/replay", "", 405, "method_not_allowed"},
		{"POST", "/relay/events/01ARZ3NDEKTSV4RRFFQ69G5FAV/replay", "", 404, "not_found"},
		{"POST", "/relay/events/" + id + "/replay", `{"destination":"billing"}`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `{"destinations":["none"]}`, 404, "not_found"},
		{"POST", "/relay/events/" + id + "/replay", `{"variant":1}`, 404, "not_found"},
		{"POST", "/relay/events/" + id + "/replay", `{"variant":9}`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `{} {}`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `[]`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `null`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `{"destinations":null}`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `{"destinations":[]}`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `{"destinations":[null]}`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `{"variant":"1"}`, 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay?variant=1", "", 400, "bad_request"},
		{"POST", "/relay/events/" + id + "/replay", `{"destinations":["` + strings.Repeat("x", maxAdminBody) + `"]}`, 413, "too_large"},
		{"POST", "/relay/dead-letters", "", 405, "method_not_allowed"},
		{"GET", "/relay/dead-letters?task_id=x", "", 400, "bad_request"},
		{"POST", "/relay/dead-letters/redrive", `{"all":true,"rate":-1}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/redrive", `{"all":true,"rate":1e-12}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/redrive", `{"all":true,"rate":"fast"}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/redrive", `{"all":true,"rate":null}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/redrive", `{"rate":1}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/discard", `{"all":true,"rate":1}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/discard", `{"orphaned":true}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/discard", `{"source":"vocals","orphaned":null}`, 400, "bad_request"},
		{"POST", "/relay/dead-letters/discard", `{"source":"vocals","orphaned":true,"since":"2026-01-31T12:00:00Z"}`, 400, "bad_request"},
		{"POST", "/relay/destinations/vocals/none/pause", "", 404, "not_found"},
		{"POST", "/relay/destinations/vocals/billing/pause", `{"for":"1h"}`, 400, "bad_request"},
		{"POST", "/relay/destinations/vocals/billing/pause", `null`, 400, "bad_request"},
		{"POST", "/relay/destinations/vocals/billing/pause?for=1h", "", 400, "bad_request"},
		{"POST", "/relay/destinations/vocals/billing/resume", `[]`, 400, "bad_request"},
		{"GET", "/relay/destinations/vocals/billing/resume", "", 405, "method_not_allowed"},
	} {
		status, answer := admin(t, e.method, e.path, e.body)
		if status != e.status || answer["error"] != e.code {
			t.Errorf("%s %s %.60s: got %d %v, expected %d %s", e.method, e.path, e.body, status, answer, e.status, e.code)
		}
		if message, _ := answer["message"].(string); !strings.HasSuffix(message, ".") {
			t.Errorf("%s %s: no sentence: %q", e.method, e.path, message)
		}
	}
	for body, want := range map[string]string{
		`[]`:                    "Expected a JSON object as the body, got array.",
		`{"variant":"1"}`:       "variant: expected number, got string.",
		`{"destinations":"x"}`:  "destinations: expected array, got string.",
		`{"destinations":[{}]}`: "destinations: expected string, got object.",
	} {
		if _, answer := admin(t, http.MethodPost, "/relay/events/"+id+"/replay", body); answer["message"] != want {
			t.Errorf("%s: %q, want %q", body, answer["message"], want)
		}
	}
}

// TestAdminSelections leaves every dead letter as it is, unless what is selected is said.
func TestAdminSelections(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusGone)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	g.accept("vocals", "task-1")
	c.await(t)
	letters := func() int {
		return len(mustAdmin(t, http.MethodGet, "/relay/dead-letters", "")["dead_letters"].([]any))
	}
	eventually(t, "a dead letter", func() bool { return letters() == 1 })
	for _, operation := range []string{"redrive", "discard"} {
		path := "/relay/dead-letters/" + operation
		for _, body := range []string{
			"", " \n", "null", "{}", "[]", "true", `"all"`, `{"all":true`, `{"all":true} x`, `{"all":true}{}`,
			`{"source":"other","source":"vocals"}`, `{"source":"other","Source":"vocals"}`, `{"ALL":true}`, `{"\u017fource":"vocals"}`,
			`{"all":false}`, `{"all":null}`, `{"all":"true"}`, `{"all":1}`,
			`{"all":true,"source":"vocals"}`, `{"all":true,"since":"2026-01-31T12:00:00Z"}`, `{"all":false,"source":"vocals"}`,
			`{"source":null}`, `{"source":""}`, `{"source":["vocals"]}`, `{"source":"a b"}`, `{"source":"vocals","destination":null}`,
			`{"source":"vocals","destination":""}`, `{"destination":"*"}`, `{"sources":"vocals"}`, `{"source":"vocals","dest":"billing"}`,
			`{"since":""}`, `{"since":"soon"}`, `{"since":1700000000}`, `{"until":null}`, `{"until":"0001-01-01T00:00:00Z"}`,
		} {
			status, answer := admin(t, http.MethodPost, path, body)
			if message, _ := answer["message"].(string); status != http.StatusBadRequest || answer["error"] != "bad_request" || !strings.HasSuffix(message, ".") {
				t.Errorf("%s %s: status %d, %v", operation, body, status, answer)
			}
		}
		if status, _ := admin(t, http.MethodPost, path+"?source=other", `{"all":true}`); status != http.StatusBadRequest {
			t.Errorf("%s with a query: status %d", operation, status)
		}
		if status, answer := admin(t, http.MethodPost, path, `{"source":"`+strings.Repeat("x", maxAdminBody)+`"}`); status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s with a large body: status %d, %v", operation, status, answer)
		}
		if got := mustAdmin(t, http.MethodPost, path, `{"until":"2026-01-31T12:00:00Z","source":"other"}`); len(got) != 1 || got["redriven"] == 1.0 || got["discarded"] == 1.0 {
			t.Errorf("%s of another source: %v", operation, got)
		}
		if n := letters(); n != 1 {
			t.Fatalf("%d dead letters are left, expected 1", n)
		}
	}
	if status, answer := admin(t, http.MethodPost, "/relay/dead-letters/discard", "{}"); status != http.StatusBadRequest ||
		!strings.Contains(answer["message"].(string), `{"all":true}`) {
		t.Errorf("status %d, %v", status, answer)
	}
	if got := mustAdmin(t, http.MethodPost, "/relay/dead-letters/redrive", `{"all":true}`); got["redriven"] != 1.0 {
		t.Errorf("redrive: %v", got)
	}
	c.await(t)
	eventually(t, "the dead letter again", func() bool { return letters() == 1 })
	if got := mustAdmin(t, http.MethodPost, "/relay/dead-letters/discard", `{"all":true}`); got["discarded"] != 1.0 || letters() != 0 {
		t.Errorf("discard: %v", got)
	}
}

// TestAdminStoreClosed answers while the store cannot be opened.
func TestAdminStoreClosed(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	// Something else in the place of the file: whoever removes it needs no restart.
	file := filepath.Join(t.TempDir(), "relay.db")
	if err := os.WriteFile(file, []byte("no database, and none of ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.mustLoad(`{"store":{"driver":"sqlite","path":"`+file+`"}}`, to(t, c.URL, nil))
	if status, _ := g.call("vocals", `{"code":200,"data":{"task_id":"a"}}`); status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
	for _, path := range []string{"/relay/events", "/relay/events/x", "/relay/dead-letters"} {
		if status, answer := admin(t, http.MethodGet, path, ""); status != http.StatusServiceUnavailable || answer["error"] != "store_unavailable" {
			t.Errorf("%s: status %d, %v", path, status, answer)
		}
	}
	if store := mustAdmin(t, http.MethodGet, "/relay/status", "")["store"].(map[string]any); store["up"] != false || store["error"] == "" ||
		store["driver"] != "sqlite" || store["location"] != file || store["unread"] != true || store["free_bytes"] != -1.0 {
		t.Errorf("store: %v", store)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store is open", func() bool {
		store := mustAdmin(t, http.MethodGet, "/relay/status", "")["store"].(map[string]any)
		return store["up"] == true && store["unread"] == nil
	})
}

func TestViewDelivery(t *testing.T) {
	e := engine.New(engine.Options{OpenStore: func(context.Context, *slog.Logger) (relay.Store, error) { return nil, relay.ErrClosed }})
	defer func() { _ = e.Close() }()
	e.Push(&relay.Settings{Sources: map[string]*relay.Source{"a": {Name: "a", Destinations: []*relay.Destination{{Name: "b"}}}}})
	due := viewDelivery(e.DisplayStates(), "a", &relay.DeliveryRecord{Destination: "b", State: relay.StatePending, NextAttempt: time.Hour})
	if due.State != string(relay.StatePending) || time.Until(due.NextAttemptAt) < 59*time.Minute {
		t.Errorf("pending: %+v", due)
	}
	orphaned := viewDelivery(e.DisplayStates(), "a", &relay.DeliveryRecord{Destination: "c", State: relay.StatePending, NextAttempt: time.Hour})
	if orphaned.State != string(relay.StateOrphaned) || !orphaned.NextAttemptAt.IsZero() {
		t.Errorf("orphaned: %+v", orphaned)
	}
	dead := viewDelivery(e.DisplayStates(), "a", &relay.DeliveryRecord{Destination: "c", State: relay.StateDead, Reason: "expired"})
	if dead.State != string(relay.StateDead) || dead.Reason != "expired" {
		t.Errorf("dead: %+v", dead)
	}
}

// An event that no request made has no headers, and shows an object all the same.
func TestViewHeaders(t *testing.T) {
	e := engine.New(engine.Options{OpenStore: func(context.Context, *slog.Logger) (relay.Store, error) { return nil, relay.ErrClosed }})
	defer func() { _ = e.Close() }()
	e.Push(&relay.Settings{})
	view, err := json.Marshal(viewWhole(e, e.DisplayStates(), &relay.EventRecord{Event: relay.Event{Body: []byte("{}")}, Variants: []relay.Variant{{N: 1}}}))
	if err != nil || strings.Count(string(view), `"headers":{}`) != 2 {
		t.Errorf("%s, %v", view, err)
	}
}

func TestShownBody(t *testing.T) {
	deep := strings.Repeat("[", payload.MaxDepth+1) + strings.Repeat("]", payload.MaxDepth+1)
	for in, expected := range map[string]string{
		`{"a":1e400,"a":"<x>"}`: `{"a":1e400,"a":"<x>"}`,
		"not \"JSON\"":          `"not \"JSON\""`,
		deep:                    `"` + deep + `"`,
	} {
		if got := string(shownBody([]byte(in))); got != expected {
			t.Errorf("got %s, expected %s", got, expected)
		}
	}
}
