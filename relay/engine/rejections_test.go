package engine_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// A callback that was refused for a wrong configuration is taken in whole by an operator.
func TestAcceptRejected(t *testing.T) {
	const body = `{"code":200, "data":{"task_id":"task-1","vocal_removal_info":{"vocal_url":"https://f.example/v.mp3"}}}`
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, tc := range map[string]struct {
		wrong  func(s *relay.Source)
		status int
		result string
	}{
		"denied":                 {func(s *relay.Source) { s.Allow = elsewhere }, 403, relay.ResultDenied},
		"unverified before body": {func(s *relay.Source) { s.Verifiers = []relay.Verifier{refusing{}} }, 401, relay.ResultUnverified},
		"unverified":             {func(s *relay.Source) { s.Verifiers = []relay.Verifier{refusing{true}} }, 401, relay.ResultUnverified},
		"invalid": {func(s *relay.Source) {
			s.Dedupe = []relay.DedupeField{{Kind: relay.DedupePath, Name: "data.nothing"}}
		}, 400, relay.ResultInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			c := newConsumer(t, nil)
			g := newGateway(t, destination(t, "a", c.URL))
			right := g.source
			wrong := *right
			tc.wrong(&wrong)
			g.source = &wrong
			g.Push(g.settings())
			r := callbackOf(body)
			r.URL.RawQuery = "token=hunter2"
			r.Header.Set("Authorization", "Bearer hunter2")
			r.Header.Set("X-Request", "7")
			r.RemoteAddr = "192.0.2.1:1234"
			if w := g.send(r); w.Code != tc.status {
				t.Fatalf("answered %d %s", w.Code, w.Body)
			}
			list := keptOf(t, g, "vocals")
			if len(list) != 1 {
				t.Fatalf("%d rejections", len(list))
			}
			one := list[0]
			if one.Status != tc.status || one.Result != tc.result || one.Remote != "192.0.2.1:1234" || one.Client.String() != "203.0.113.7" ||
				string(one.Body) != body || !one.Kept || one.Path != "/callback" || one.Headers["x-request"] != "7" || one.Headers["authorization"] != "" {
				t.Errorf("kept: %+v", one)
			}
			if strings.Contains(one.Reason, "hunter2") || !strings.HasSuffix(one.Reason, ".") {
				t.Errorf("reason: %s", one.Reason)
			}
			if tc.status == 400 {
				if _, err := g.AcceptRejected(t.Context(), one.ID); !errors.Is(err, intake.ErrUnreadable) {
					t.Errorf("taken in by a source that cannot read it: %v", err)
				}
			}

			g.source = right
			g.Push(g.settings())
			var took atomic.Int32
			var operators sync.WaitGroup
			for range 8 {
				operators.Go(func() {
					receipt, err := g.AcceptRejected(t.Context(), one.ID)
					switch {
					case err == nil && receipt.Result == relay.ResultAccepted && receipt.TaskID == "task-1":
						took.Add(1)
					case !errors.Is(err, intake.ErrTaken):
						t.Errorf("%+v, %v", receipt, err)
					}
				})
			}
			operators.Wait()
			if took.Load() != 1 {
				t.Fatalf("taken in %d times", took.Load())
			}
			got := c.next(t)
			if got.body != body {
				t.Errorf("delivered %q", got.body)
			}
			id := got.header.Get("Webhook-Id")
			rec, err := g.Event(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if rec.Origin != relay.OriginOperator || rec.Headers["x-request"] != "7" || rec.Headers["content-type"] != "application/json" {
				t.Errorf("event: %+v", rec.Event)
			}
			if list := keptOf(t, g, ""); list[0].Accepted != id {
				t.Errorf("accepted as %q, not %q", list[0].Accepted, id)
			}
			// The sender's next try is a duplicate.
			if w := g.send(callbackOf(body)); w.Header().Get("Relay-Event-Id") != id || w.Header().Get("Relay-Duplicate") != "true" {
				t.Errorf("the next try: %d %v", w.Code, w.Header())
			}
		})
	}
}

// What cannot be taken in is there for a look all the same, and who is refused gets the answer whatever becomes of the body.
func TestRejectionsWithoutBody(t *testing.T) {
	g := newGateway(t, destination(t, "a", "http://127.0.0.1:1/"))
	g.source.Verifiers = []relay.Verifier{refusing{}}
	r := callback("task-1")
	r.Body = io.NopCloser(iotest.ErrReader(errors.New("the connection is gone")))
	if w := g.send(r); w.Code != http.StatusUnauthorized {
		t.Errorf("answered %d", w.Code)
	}
	r = callback("task-1")
	r.ContentLength = g.source.MaxBody + 1
	r.Body = unreadable{t}
	if w := g.send(r); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d", w.Code)
	}
	typed := callbackOf("text")
	typed.Header.Set("Content-Type", "text/plain")
	if w := g.send(typed); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("answered %d", w.Code)
	}
	list := keptOf(t, g, "")
	if len(list) != 3 {
		t.Fatalf("%d rejections", len(list))
	}
	announced := map[int]int64{http.StatusUnsupportedMediaType: 4, http.StatusRequestEntityTooLarge: g.source.MaxBody + 1}
	for _, one := range list {
		if size, ok := announced[one.Status]; ok && one.Size != size || one.Kept || one.Body != nil {
			t.Errorf("kept: %+v", one)
		}
		if _, err := g.AcceptRejected(context.Background(), one.ID); !errors.Is(err, intake.ErrNotKept) {
			t.Errorf("taken in: %v", err)
		}
	}
	if _, err := g.AcceptRejected(context.Background(), "none"); !errors.Is(err, relay.ErrNotFound) {
		t.Errorf("none: %v", err)
	}
}

// A stranger who withholds the body is answered all the same.
func TestDeniedStrangerWithholdsBody(t *testing.T) {
	g := newGateway(t, destination(t, "a", "http://127.0.0.1:1/"))
	g.source.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	g.source.AckWithin = 400 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.Receive(w, r, g.source, netip.MustParseAddr("203.0.113.7"))
	}))
	defer server.Close()
	if status := withhold(t, server, "POST / HTTP/1.1\r\nContent-Type: application/json"); status != http.StatusForbidden {
		t.Errorf("answered %d", status)
	}
	if list := keptOf(t, g, ""); len(list) != 1 || list[0].Kept {
		t.Errorf("kept: %+v", list)
	}
}

// An operator's own callback goes through the door without the checks of who calls.
func TestAdmit(t *testing.T) {
	c := newConsumer(t, nil)
	g := newGateway(t, destination(t, "a", c.URL))
	g.source.Verifiers = []relay.Verifier{refusing{}}
	header := http.Header{"Content-Type": {"application/json"}}
	first, err := g.Admit(t.Context(), "vocals", header, []byte(`{"code":200,"data":{"task_id":"task-1"}}`))
	if err != nil || first.Result != relay.ResultAccepted {
		t.Fatalf("%+v, %v", first, err)
	}
	if got := c.next(t); got.header.Get("Webhook-Id") != first.EventID {
		t.Errorf("delivered %v", got.header)
	}
	again, err := g.Admit(t.Context(), "vocals", header, []byte(`{"code":200,"data":{"task_id":"task-1"}}`))
	if err != nil || again.Result != relay.ResultDuplicate || again.EventID != first.EventID {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := g.Admit(t.Context(), "vocals", header, []byte(`[]`)); !errors.Is(err, intake.ErrUnreadable) {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := g.Admit(t.Context(), "other", header, []byte(`{}`)); !errors.Is(err, relay.ErrNotFound) {
		t.Errorf("no source: %v", err)
	}
}

// What the door refuses whoever sends it, it refuses from an operator too, with the same answer.
func TestAdmitRefused(t *testing.T) {
	const body = `{"code":200,"data":{"task_id":"task-1"}}`
	g := newGateway(t, destination(t, "a", newConsumer(t, nil).URL))
	g.source.MaxBody = 100
	for name, c := range map[string]struct {
		header http.Header
		body   string
		status int
	}{
		"type":     {http.Header{"Content-Type": {"text/plain"}}, body, http.StatusUnsupportedMediaType},
		"encoding": {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}}, body, http.StatusUnsupportedMediaType},
		"size":     {http.Header{"Content-Type": {"application/json"}}, body + strings.Repeat(" ", 100), http.StatusRequestEntityTooLarge},
	} {
		_, err := g.Admit(t.Context(), "vocals", c.header, []byte(c.body))
		refused, ok := errors.AsType[*intake.RefusedError](err)
		if !ok || refused.Status != c.status {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := callbackOf(c.body)
		r.Header = c.header
		if w := g.send(r); w.Code != refused.Status || gjson.Get(w.Body.String(), "error").Str != refused.Code ||
			gjson.Get(w.Body.String(), "message").Str != refused.Message {
			t.Errorf("%s: the door answers %d %s, and an operator gets %+v", name, w.Code, w.Body, refused)
		}
	}

	// So it does with a callback that was refused for who sent it.
	g.source.Verifiers = []relay.Verifier{refusing{}}
	if w := g.send(callbackOf(body)); w.Code != http.StatusUnauthorized {
		t.Fatalf("answered %d", w.Code)
	}
	id := keptOf(t, g, "")[0].ID
	g.source.Body = payload.Form
	if _, err := g.AcceptRejected(t.Context(), id); err == nil || err.Error() != "The body must be a form, with the Content-Type application/x-www-form-urlencoded." {
		t.Errorf("taken in by a source of forms: %v", err)
	}
	g.source.Body = payload.JSON
	if _, err := g.AcceptRejected(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// keptOf returns the first rejected callbacks that are kept of a source, or of all.
func keptOf(t *testing.T, g *gateway, source string) []intake.Rejected {
	t.Helper()
	list, _, err := g.Rejections(source, 10, "")
	if err != nil {
		t.Fatal(err)
	}
	return list
}
