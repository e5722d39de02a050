package caddymodule

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// adminMux serves the admin routes as Caddy's endpoint does.
func adminMux(t *testing.T) *http.ServeMux {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range new(AdminAPI).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Handler.ServeHTTP(w, r); err != nil {
				t.Errorf("%s %s: Caddy would answer again: %v", r.Method, r.URL.Path, err)
			}
		})
	}
	return mux
}

func TestAdminReplayAll(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	ids := []string{g.accept("vocals", "task-1"), g.accept("vocals", "task-2")}
	for _, id := range ids {
		c.await(t)
		eventually(t, "the delivery", func() bool { return mustAdmin(t, http.MethodGet, api.EventPath(id), "")["state"] == "delivered" })
	}
	for _, step := range []struct {
		body              string
		replayed, skipped float64
	}{
		{`{"source":"vocals","since":"2020-01-31T12:00:00Z","dry_run":true}`, 2, 0},
		{`{"source":"vocals","until":"2020-01-31T12:00:00Z"}`, 0, 0},
		{`{"source":"vocals","task_id":"task-1"}`, 1, 0},
		{`{"source":"vocals","destination":"billing","state":"delivered","rate":"1000/s"}`, 2, 0},
	} {
		got := mustAdmin(t, http.MethodPost, api.PathReplay, step.body)
		keys(t, step.body, got, "replayed", "skipped")
		if got["replayed"] != step.replayed || got["skipped"] != step.skipped {
			t.Errorf("%s: %v", step.body, got)
		}
		if strings.Contains(step.body, "dry_run") {
			continue
		}
		for range int(step.replayed) {
			c.await(t)
		}
		for _, id := range ids {
			eventually(t, "the delivery", func() bool { return mustAdmin(t, http.MethodGet, api.EventPath(id), "")["state"] == "delivered" })
		}
	}
	for body, want := range map[string]int{
		``:                                      400,
		`{}`:                                    400,
		`{"source":"vocals"}`:                   400,
		`{"source":"vocals","rate":1}`:          400,
		`{"source":"vocals","dry_run":true}`:    400,
		`{"task_id":"task-1"}`:                  400,
		`{"source":"","task_id":"task-1"}`:      400,
		`{"source":"vocals","task_id":""}`:      400,
		`{"source":"vocals","task_id":null}`:    400,
		`{"source":"vocals","state":"held"}`:    400,
		`{"source":"a b","state":"dead"}`:       400,
		`{"source":"vocals","since":"2h"}`:      400,
		`{"source":"vocals","all":true}`:        400,
		`{"source":"vocals","destination":"x"}`: 404,
	} {
		status, answer := admin(t, http.MethodPost, api.PathReplay, body)
		if message, _ := answer["message"].(string); status != want || !strings.HasSuffix(message, ".") {
			t.Errorf("%s: status %d, %v", body, status, answer)
		}
	}
	if status, _ := admin(t, http.MethodGet, api.PathReplay, ""); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", status)
	}
}

func TestAdminReassign(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	mustAdmin(t, http.MethodPost, api.PausePath("vocals", "billing"), "")
	id := g.accept("vocals", "task-1")
	path := api.ReassignPath("vocals", "billing")
	for body, want := range map[string]int{
		``: 400, `{}`: 400, `{"to":""}`: 400, `{"to":"a b"}`: 400, `{"to":"billing"}`: 400, `{"to":"none"}`: 404, `{"to":"x","from":"y"}`: 400,
	} {
		if status, answer := admin(t, http.MethodPost, path, body); status != want {
			t.Errorf("%s: status %d, %v", body, status, answer)
		}
	}
	invoices := map[string]any{"name": "invoices", "url": c.URL}
	both := []any{map[string]any{"name": "billing", "url": c.URL}, invoices}
	g.mustLoad(`{}`, handlerConfig(t, map[string]any{"destinations": both}, nil))
	if status, answer := admin(t, http.MethodPost, path, `{"to":"invoices"}`); status != http.StatusConflict || answer["error"] != "conflict" {
		t.Errorf("of a destination that is configured: status %d, %v", status, answer)
	}
	g.mustLoad(`{}`, handlerConfig(t, nil, invoices))
	got := mustAdmin(t, http.MethodPost, path, `{"to":"invoices"}`)
	keys(t, "reassign", got, "reassigned", "left")
	if got["reassigned"] != 1.0 || got["left"] != 0.0 {
		t.Errorf("reassign: %v", got)
	}
	c.await(t)
	eventually(t, "the delivery", func() bool { return mustAdmin(t, http.MethodGet, api.EventPath(id), "")["state"] == "delivered" })
	if status, _ := admin(t, http.MethodPost, path, `{"to":"invoices"}`); status != http.StatusNotFound {
		t.Errorf("once more: status %d", status)
	}
}

func TestAdminExport(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, to(t, "http://127.0.0.1:9", nil))
	mustAdmin(t, http.MethodPost, api.PausePath("vocals", "billing"), "")
	const events = exportPage + 20
	for i := range events {
		g.accept("vocals", "task-"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	server := httptest.NewServer(adminMux(t))
	defer server.Close()
	for query, want := range map[string]int{
		"": events, "?source=vocals": events, "?source=other": 0, "?task_id=task-ba": 1, "?limit=7": 7, "?destination=billing": events, "?until=2020-01-31T12:00:00Z": 0,
	} {
		resp, err := server.Client().Get(server.URL + api.PathExport + query)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/jsonl" {
			t.Errorf("%s: Content-Type %q", query, got)
		}
		n, newest := 0, ""
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for ; lines.Scan(); n++ {
			var event api.Event
			if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
				t.Fatalf("%v in %s", err, lines.Text())
			}
			if event.EventDetails == nil || len(event.Payload) == 0 || len(event.Deliveries) != 1 || event.Deliveries[0].Destination != "billing" {
				t.Fatalf("line: %s", lines.Text())
			}
			if newest != "" && event.ID >= newest {
				t.Errorf("%s comes after %s", event.ID, newest)
			}
			newest = event.ID
		}
		if err := lines.Err(); err != nil {
			t.Error(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if n != want {
			t.Errorf("%s: %d lines, want %d", query, n, want)
		}
	}
	for _, query := range []string{"?limit=0", "?state=held", "?task=x", "?cursor=bad"} {
		if status, answer := admin(t, http.MethodGet, api.PathExport+query, ""); status != http.StatusBadRequest {
			t.Errorf("%s: status %d, %v", query, status, answer)
		}
	}
}

// deadlined notes the deadlines of a connection.
type deadlined struct {
	*httptest.ResponseRecorder
	reads, writes time.Time
}

func (d *deadlined) SetReadDeadline(t time.Time) error {
	d.reads = t
	return nil
}

func (d *deadlined) SetWriteDeadline(t time.Time) error {
	d.writes = t
	return nil
}

// Work in bulk is not ended by the time within which a request must be read.
func TestAdminDeadline(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, to(t, "http://127.0.0.1:9", nil))
	w := &deadlined{ResponseRecorder: httptest.NewRecorder(), reads: time.Now().Add(10 * time.Second)}
	adminMux(t).ServeHTTP(w, httptest.NewRequest(http.MethodPost, api.PathRedrive, strings.NewReader(`{"all":true}`)))
	if w.Code != http.StatusOK || !w.reads.IsZero() {
		t.Errorf("status %d, deadline %v", w.Code, w.reads)
	}
}
