package caddymodule

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
)

// TestAdminRejections accepts a callback after its wrong secret was mended.
func TestAdminRejections(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	token := func(secret string) map[string]any {
		return to(t, c.URL, map[string]any{"verify": []any{map[string]any{"verifier": "token", "secret": secret, "query": "token"}}})
	}
	g.mustLoad(`{}`, token("wrong"))
	const body = `{"code":200,"data":{"task_id":"task-1"}}`
	call := func() (int, string) {
		res, err := g.client.Post("http://gateway/vocals?token=right", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode, res.Header.Get("Relay-Event-Id")
	}
	if status, _ := call(); status != http.StatusUnauthorized {
		t.Fatalf("status %d", status)
	}
	answer := mustAdmin(t, http.MethodGet, "/relay/rejections?source=vocals&limit=5", "")
	one := first(t, answer, "rejections")
	keys(t, "rejection", one, "id", "source", "at", "result", "status", "code", "message", "remote", "client", "task_id", "bytes", "can_accept", "headers", "payload")
	if one["result"] != "unverified" || one["status"] != 401.0 || one["can_accept"] != true || one["bytes"] != float64(len(body)) {
		t.Errorf("rejection: %v", one)
	}
	if text, err := json.Marshal(answer); err != nil || strings.Contains(string(text), "right") || strings.Contains(string(text), "wrong") {
		t.Errorf("a secret is shown: %s", text)
	}
	accept := "/relay/rejections/" + one["id"].(string) + "/accept"
	g.mustLoad(`{}`, token("right")) // what is kept outlives a reload
	got := mustAdmin(t, http.MethodPost, accept, "")
	keys(t, "accepted", got, "event_id", "result")
	if got["result"] != "accepted" || c.await(t) != body {
		t.Errorf("accepted: %v", got)
	}
	if status, again := admin(t, http.MethodPost, accept, ""); status != http.StatusConflict || again["error"] != "already_accepted" {
		t.Errorf("twice: %d %v", status, again)
	}
	one = first(t, mustAdmin(t, http.MethodGet, "/relay/rejections", ""), "rejections")
	if one["accepted"] != got["event_id"] || one["can_accept"] != false {
		t.Errorf("after it was accepted: %v", one)
	}
	if event := mustAdmin(t, http.MethodGet, "/relay/events/"+got["event_id"].(string), ""); event["origin"] != "operator" {
		t.Errorf("event: %v", event)
	}
	if status, event := call(); status != http.StatusOK || event != got["event_id"] {
		t.Errorf("the sender's next try: %d, %s", status, event)
	}
}

func TestAdminSend(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, map[string]any{"allow": []string{"192.0.2.1"}}))
	sent := mustAdmin(t, http.MethodPost, "/relay/send", `{"source":"vocals"}`)
	keys(t, "sent", sent, "status", "event_id", "body")
	if body := c.await(t); !strings.Contains(body, `"task_id":"sample-`) || sent["status"] != 200.0 {
		t.Errorf("sent %v, delivered %s", sent, body)
	}
	if again := mustAdmin(t, http.MethodPost, "/relay/send", `{"source":"vocals"}`); again["event_id"] == sent["event_id"] {
		t.Errorf("a second sample is no event of its own: %v", again)
	}
	c.await(t)
	const own = `{"source":"vocals","body":"{\"code\":200, \"data\":{\"task_id\":\"t\"}}","headers":{"X-A":"b"}}`
	sent = mustAdmin(t, http.MethodPost, "/relay/send", own)
	if body := c.await(t); body != `{"code":200, "data":{"task_id":"t"}}` {
		t.Errorf("delivered %s", body)
	}
	event := mustAdmin(t, http.MethodGet, "/relay/events/"+sent["event_id"].(string), "")
	if event["origin"] != "operator" || event["headers"].(map[string]any)["x-a"] != "b" {
		t.Errorf("event: %v", event)
	}
	if again := mustAdmin(t, http.MethodPost, "/relay/send", own); again["duplicate"] != true || again["event_id"] != sent["event_id"] {
		t.Errorf("again: %v", again)
	}
}

// TestAdminSendToArchive sends a sample to a source with an archive, which has nothing to look for, and so nothing to give up.
func TestAdminSendToArchive(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, map[string]any{"archive": map[string]any{"storage": "file", "dir": t.TempDir()}}))
	sent := mustAdmin(t, http.MethodPost, "/relay/send", `{"source":"vocals"}`)
	if body := c.await(t); !strings.Contains(body, `"code":200,`) || strings.Contains(body, "http") {
		t.Errorf("delivered %s", body)
	}
	event := mustAdmin(t, http.MethodGet, "/relay/events/"+sent["event_id"].(string), "")
	if deliveries := event["deliveries"].([]any); len(deliveries) != 1 || deliveries[0].(map[string]any)["destination"] == "archive" {
		t.Errorf("deliveries: %v", deliveries)
	}
}

func TestAdminLiveErrors(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, handlerConfig(t, map[string]any{"max_body": 100}, nil))
	for _, e := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/relay/rejections", "", 405, "method_not_allowed"},
		{"GET", "/relay/rejections?limit=0", "", 400, "bad_request"},
		{"GET", "/relay/rejections?reason=x", "", 400, "bad_request"},
		{"GET", "/relay/rejections/x/accept", "", 405, "method_not_allowed"},
		{"POST", "/relay/rejections/x/accept", "", 404, "not_found"},
		{"POST", "/relay/rejections/x/accept", `{"force":true}`, 400, "bad_request"},
		{"POST", "/relay/stream", "", 405, "method_not_allowed"},
		{"GET", "/relay/stream?since=yesterday", "", 400, "bad_request"},
		{"GET", "/relay/stream?from=x", "", 400, "bad_request"},
		{"GET", "/relay/stream?source=nobody", "", 404, "not_found"},
		{"GET", "/relay/send", "", 405, "method_not_allowed"},
		{"POST", "/relay/send", "", 400, "bad_request"},
		{"POST", "/relay/send", "{}", 400, "bad_request"},
		{"POST", "/relay/send", `{"source":"other"}`, 404, "not_found"},
		{"POST", "/relay/send", `{"source":"vocals","headers":{"a b":"c"}}`, 400, "bad_request"},
		{"POST", "/relay/send", `{"source":"vocals","content_type":"a\nb"}`, 400, "bad_request"},
		{"POST", "/relay/send", `{"source":"vocals","body":[1]}`, 422, "invalid_body"},
		{"POST", "/relay/send", `{"source":"vocals","content_type":"text/plain","body":{"code":200,"data":{"task_id":"t"}}}`, 415, "unsupported_media_type"},
		{"POST", "/relay/send", `{"source":"vocals","headers":{"content-encoding":"gzip"},"body":{"code":200,"data":{"task_id":"t"}}}`, 415, "unsupported_encoding"},
		{"POST", "/relay/send", `{"source":"vocals","body":{"code":200,"data":{"task_id":"t"},"msg":"` + strings.Repeat("x", 100) + `"}}`, 413, "body_too_large"},
		{"POST", "/relay/doctor", "", 405, "method_not_allowed"},
		{"GET", "/relay/doctor?quick=1", "", 400, "bad_request"},
	} {
		status, answer := admin(t, e.method, e.path, e.body)
		if status != e.status || answer["error"] != e.code {
			t.Errorf("%s %s %.60s: got %d %v, expected %d %s", e.method, e.path, e.body, status, answer, e.status, e.code)
		}
		if message, _ := answer["message"].(string); !strings.HasSuffix(message, ".") {
			t.Errorf("%s %s: no sentence: %q", e.method, e.path, message)
		}
	}
}

// bare is a response writer that is no Flusher, as that of Caddy's admin endpoint.
type bare struct{ w http.ResponseWriter }

func (b bare) Header() http.Header         { return b.w.Header() }
func (b bare) Write(p []byte) (int, error) { return b.w.Write(p) }
func (b bare) WriteHeader(status int)      { b.w.WriteHeader(status) }
func (b bare) Unwrap() http.ResponseWriter { return b.w }
func adminServer(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range new(AdminAPI).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) { _ = route.Handler.ServeHTTP(bare{w}, r) })
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// streamClient reads server-sent events.
type streamClient struct {
	t    *testing.T
	body *bufio.Reader
}

func openStream(t *testing.T, server *httptest.Server, query, last string) *streamClient {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/relay/stream?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("status %d, %v, %s", res.StatusCode, res.Header, body)
	}
	return &streamClient{t, bufio.NewReader(res.Body)}
}

// next returns the next event with its id.
func (c *streamClient) next() (id string, e api.StreamEvent) {
	c.t.Helper()
	kind := ""
	for {
		line, err := c.body.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				c.t.Fatal(err)
			}
		case "":
			if kind != "" {
				if kind != e.Type {
					c.t.Errorf("%s has the type %s", kind, e.Type)
				}
				return id, e
			}
		}
	}
}

func TestAdminStream(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	server := adminServer(t)
	live := openStream(t, server, "source=vocals", "")
	first := g.accept("vocals", "task-1")
	id, e := live.next()
	if id != first || e.Type != api.StreamAccepted || e.EventID != first || e.TaskID != "task-1" || e.Code != "200" || e.At.IsZero() {
		t.Errorf("id %q, %+v", id, e)
	}
	id, e = live.next()
	if id != "" || e.Type != api.StreamDelivered || e.EventID != first || e.Destination != "billing" || e.Status != 200 || e.Attempt != 1 {
		t.Errorf("id %q, %+v", id, e)
	}
	second := g.accept("vocals", "task-2")
	for _, resumed := range []*streamClient{openStream(t, server, "since="+first, ""), openStream(t, server, "since="+second, first)} {
		if id, e = resumed.next(); id != second || e.Type != api.StreamAccepted {
			t.Errorf("resumed with id %q, %+v", id, e)
		}
	}
	var more []*streamClient
	for range stream.MaxWatchers - 3 {
		more = append(more, openStream(t, server, "", ""))
	}
	if status, answer := admin(t, http.MethodGet, "/relay/stream", ""); status != http.StatusServiceUnavailable || answer["error"] != "too_many_clients" {
		t.Errorf("one client more: %d %v", status, answer)
	}
	res, err := server.Client().Head(server.URL + "/relay/stream")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("HEAD: %v, %v", res, err)
	}
	_ = res.Body.Close()

	// A reload ends the streams, so that no stop waits for them; clients reconnect.
	g.mustLoad(`{"retention":"1h"}`, to(t, c.URL, nil))
	for _, client := range append(more, live) {
		if _, err := io.Copy(io.Discard, client.body); err != nil {
			t.Fatal(err)
		}
	}
	again := openStream(t, server, "", second)
	third := g.accept("vocals", "task-3")
	id = ""
	for id == "" { // what becomes of the others may come first
		id, _ = again.next()
	}
	if id != third {
		t.Errorf("after the reload: %q, not %q", id, third)
	}
}

// TestRenderStream shows which items set the id after which a client resumes.
func TestRenderStream(t *testing.T) {
	for want, i := range map[string]stream.Item{
		"id: 7\nevent: accepted\ndata: {\"type\":\"accepted\",\"event_id\":\"7\",\"source\":\"vocals\",\"task_id\":\"t\"}\n\n":           {Kind: stream.Accepted},
		"event: accepted\ndata: {\"type\":\"accepted\",\"event_id\":\"7\",\"source\":\"vocals\",\"task_id\":\"t\",\"earlier\":true}\n\n": {Kind: stream.Accepted, Earlier: true},
		"event: dead\ndata: {\"type\":\"dead\",\"event_id\":\"7\",\"source\":\"vocals\",\"task_id\":\"t\"}\n\n":                          {Kind: stream.Dead},
	} {
		i.EventID, i.Source, i.TaskID = "7", "vocals", "t"
		if got := string(renderStream(&i)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestAdminStreamLimits leaves no deadline between two writes, with which HTTP/2 would end the stream, and one at its end.
func TestAdminStreamLimits(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &deadlined{ResponseRecorder: httptest.NewRecorder()}
	s := &sse{ctx: ctx, w: w, control: http.NewResponseController(w)}
	if err := s.send(nil); err != nil || !w.writes.IsZero() {
		t.Errorf("after a write, which returned %v, the deadline is %v", err, w.writes)
	}
	if err := s.send(nil); err != nil || w.Body.String() != "retry: 2000\n:\n:\n" {
		t.Errorf("a client whose parser takes every block for a message gets %q, %v", w.Body, err)
	}
	cancel()
	if err := s.send(nil); !errors.Is(err, context.Canceled) || w.writes.IsZero() {
		t.Errorf("at the end a write returned %v, and the deadline is %v", err, w.writes)
	}
}

// A client that takes nothing is dropped, and neither holds up callbacks nor the end of the stream.
func TestAdminStreamStalls(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	stalled := &stalledWriter{header: http.Header{}, writing: make(chan struct{}), end: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() {
		r := httptest.NewRequest(http.MethodGet, "/relay/stream", nil).WithContext(ctx)
		served <- serveStream(stalled, activeApp(t).pooled.Engine, r)
	}()
	<-stalled.writing
	g.accept("vocals", "task-1")
	g.mustLoad(`{"retention":"1h"}`, to(t, c.URL, nil))
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// stalledWriter is a response writer whose client takes nothing until the deadline for writing has passed.
type stalledWriter struct {
	header       http.Header
	writing, end chan struct{}
}

func (s *stalledWriter) Header() http.Header { return s.header }
func (s *stalledWriter) WriteHeader(int)     {}
func (s *stalledWriter) Write([]byte) (int, error) {
	close(s.writing)
	<-s.end
	return 0, errors.New("deadline exceeded")
}

func (s *stalledWriter) SetWriteDeadline(at time.Time) error {
	if wait := time.Until(at); wait < streamStalled/2 { // the stop's
		time.AfterFunc(wait, func() { close(s.end) })
	}
	return nil
}
