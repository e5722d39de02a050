package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// event writes a server-sent event.
func event(w http.ResponseWriter, e api.StreamEvent) {
	data, _ := json.Marshal(e)
	_, _ = fmt.Fprintf(w, ": a comment\nevent: %s\nid: %s\ndata: %s\n\n", e.Type, e.EventID, data)
	_ = http.NewResponseController(w).Flush()
}

// followUntil forwards a stream to a URL until an event has been forwarded, and returns what is printed.
func followUntil(t *testing.T, address, to, last string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := clientOf(t, address)
	var out strings.Builder
	followed := &tail{call: &call{client: client, terminal: terminal{out: &out, err: writer(func(line string) {
		if strings.HasPrefix(line, last+" forwarded") {
			cancel() // the user has seen enough
		}
	})}}, source: "vocals"}
	var err error
	if followed.forwarder, err = newForwarder(client, to); err != nil {
		t.Fatal(err)
	}
	defer followed.forwarder.close()
	if err := followed.follow(ctx); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A tail begins after the newest event, goes on after the last one that it has seen, and posts each to the URL once: the
// body byte for byte, and nothing to where an answer redirects.
func TestTail(t *testing.T) {
	body := "{ \"spaces\" : 1 }\n"
	var mu sync.Mutex
	var since []string
	var got []*http.Request
	var bodies []string
	consumer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got, bodies = append(got, r), append(bodies, string(text))
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer consumer.Close()
	address := serve(t, map[string]http.HandlerFunc{
		"GET /relay/events": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(api.Events{Events: []api.Event{{ID: "newest"}}})
		},
		"GET /relay/events/{id}/body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(api.HeaderContentType, "application/vnd.x+json")
			_, _ = io.WriteString(w, body)
		},
		"GET /relay/stream": func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			since = append(since, r.FormValue("since"))
			n := len(since)
			mu.Unlock()
			switch n {
			case 1: // a connection that breaks off
				event(w, api.StreamEvent{Type: api.StreamAccepted, EventID: "first", Source: "vocals", TaskID: "7", At: now})
				event(w, api.StreamEvent{Type: api.StreamDead, EventID: "older", Source: "vocals", TaskID: "6", Destination: "billing", Status: 410, At: now})
			case 2: // a gateway that starts
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				event(w, api.StreamEvent{Type: api.StreamAccepted, EventID: "second", Source: "vocals", TaskID: "8", At: now})
				<-r.Context().Done()
			}
		},
	})
	out := followUntil(t, address, consumer.URL+"/hook", "second")

	mu.Lock()
	defer mu.Unlock()
	if expected := []string{"newest", "first", "first"}; !slices.Equal(since, expected) {
		t.Errorf("the streams begin after %q", since)
	}
	if len(got) != 2 || bodies[0] != body || bodies[1] != body {
		t.Fatalf("forwarded %q", bodies)
	}
	for name, expected := range map[string]string{
		"Content-Type": "application/vnd.x+json", "Webhook-Id": "first", "Relay-Source": "vocals", "Relay-Task-Id": "7", "Relay-Attempt": "1",
		"User-Agent": "caddy-relay/dev", "Accept-Encoding": "",
	} {
		if value := got[0].Header.Get(name); value != expected || got[0].URL.Path != "/hook" {
			t.Errorf("%s: %q at %s", name, value, got[0].URL)
		}
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "dead       older  vocals  billing  410") {
		t.Errorf("printed:\n%s", out)
	}
}

// A gateway may send again what it stored shortly before the event that it is asked to go on after. Each event is printed
// and posted once, and what is older than the beginning never.
func TestTailShowsAnEventOnce(t *testing.T) {
	var mu sync.Mutex
	var since, posted []string
	consumer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		posted = append(posted, r.Header.Get("Webhook-Id"))
	}))
	defer consumer.Close()
	accepted := func(id string, earlier bool) api.StreamEvent {
		return api.StreamEvent{Type: api.StreamAccepted, EventID: id, At: now, Earlier: earlier}
	}
	delivered := func(id string, at time.Time, earlier bool) api.StreamEvent {
		return api.StreamEvent{Type: api.StreamDelivered, EventID: id, At: at, Destination: "billing", Earlier: earlier}
	}
	address := serve(t, map[string]http.HandlerFunc{
		"GET /relay/events": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(api.Events{Events: []api.Event{{ID: "newest"}}})
		},
		"GET /relay/events/{id}/body": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") },
		"GET /relay/stream": func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			since = append(since, r.FormValue("since"))
			n := len(since)
			mu.Unlock()
			for _, e := range [][]api.StreamEvent{
				{accepted("old", true)}, // and the connection breaks off
				{accepted("old", true), delivered("old", time.Time{}, true), accepted("older", true), accepted("first", false)},
				{
					accepted("older", true), accepted("late", true), delivered("late", time.Time{}, true),
					accepted("first", false), delivered("first", time.Time{}, false), delivered("first", now, false),
				},
				{accepted("late", true), accepted("second", false)},
			}[min(n, 4)-1] {
				event(w, e)
			}
			if n >= 4 {
				<-r.Context().Done()
			}
		},
	})
	out := followUntil(t, address, consumer.URL, "second")
	mu.Lock()
	defer mu.Unlock()
	if expected := []string{"newest", "newest", "first", "first"}; !slices.Equal(since, expected) {
		t.Errorf("the streams begin after %q", since)
	}
	if expected := []string{"first", "late", "second"}; !slices.Equal(posted, expected) {
		t.Errorf("posted %q", posted)
	}
	var printed []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		printed = append(printed, f[1]+" "+f[2])
	}
	if expected := []string{"accepted first", "accepted late", "delivered late", "delivered first", "accepted second"}; !slices.Equal(printed, expected) {
		t.Errorf("printed:\n%s", out)
	}
}

// What a tail remembers is bounded.
func TestRecently(t *testing.T) {
	var r recently
	for i := range 3 * mostRecent {
		r.add(strconv.Itoa(i))
		if n := len(r.newest) + len(r.older); n > 2*mostRecent {
			t.Fatalf("remembers %d", n)
		}
		if kept := max(0, i-mostRecent+1); !r.has(strconv.Itoa(kept)) || !r.has(strconv.Itoa(i)) {
			t.Fatalf("of %d does not remember %d", i, kept)
		}
	}
}

// A gateway that refuses what is asked is not asked again.
func TestTailOfNothing(t *testing.T) {
	address := serve(t, map[string]http.HandlerFunc{"GET /relay/stream": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"not_found","message":"There is no source x."}`)
	}})
	if _, err := execute(t, t.Context(), "", "tail", "--since=01K2Q7ZJ0V3E8Y4M6T5R9W1XAB", address); err == nil || err.Error() != "There is no source x." {
		t.Errorf("error %v", err)
	}
}
