package engine_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/filter"

	"github.com/callbackrelay/caddy-relay/relay"
)

// refusing is a verifier that lets nobody in.
type refusing struct{ body bool }

func (refusing) Verify(*relay.Callback) error { return errors.New("not you") }
func (v refusing) NeedsBody() bool            { return v.body }
func (refusing) Headers() []string            { return nil }

// undecided is a verifier whose sender's keys are away.
type undecided struct{ refusing }

func (undecided) Verify(c *relay.Callback) error {
	if c.Deadline.Before(c.Now) {
		return errors.New("no time is left")
	}
	return fmt.Errorf("%w: no keys", relay.ErrUndecided)
}

func TestRejections(t *testing.T) {
	const body = `{"code":200,"data":{"task_id":"task-1"}}`
	request := func(change func(r *http.Request)) *http.Request {
		r := callbackOf(body)
		change(r)
		return r
	}
	for name, tc := range map[string]struct {
		source  func(s *relay.Source)
		request *http.Request
		want    int
		code    string
	}{
		"not POST": {nil, request(func(r *http.Request) { r.Method = http.MethodGet }), 405, "method_not_allowed"},
		"address":  {func(s *relay.Source) { s.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, callbackOf(body), 403, "address_not_allowed"},
		"address before type": {
			func(s *relay.Source) { s.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
			request(func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }), 403, "address_not_allowed",
		},
		"media type":          {nil, request(func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }), 415, "unsupported_media_type"},
		"no media type":       {nil, request(func(r *http.Request) { r.Header.Del("Content-Type") }), 415, "unsupported_media_type"},
		"encoding":            {nil, request(func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), 415, "unsupported_encoding"},
		"too large":           {func(s *relay.Source) { s.MaxBody = 10 }, callbackOf(body), 413, "body_too_large"},
		"too large, unknown":  {func(s *relay.Source) { s.MaxBody = 10 }, request(func(r *http.Request) { r.ContentLength = -1 }), 413, "body_too_large"},
		"token":               {func(s *relay.Source) { s.Verifiers = []relay.Verifier{refusing{}} }, callbackOf(body), 401, "verification_failed"},
		"token before body":   {func(s *relay.Source) { s.Verifiers = []relay.Verifier{refusing{}} }, request(func(r *http.Request) { r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)) }), 401, "verification_failed"},
		"signature":           {func(s *relay.Source) { s.Verifiers = []relay.Verifier{refusing{true}} }, callbackOf(body), 401, "verification_failed"},
		"undecided":           {func(s *relay.Source) { s.Verifiers = []relay.Verifier{undecided{refusing{true}}} }, callbackOf(body), 503, "unavailable"},
		"signature, no shape": {func(s *relay.Source) { s.Verifiers = []relay.Verifier{refusing{true}} }, callbackOf(`nonsense`), 401, "verification_failed"},
		"no JSON":             {nil, callbackOf(`nonsense`), 400, "invalid_body"},
		"no object":           {nil, callbackOf(`[{"code":200}]`), 400, "invalid_body"},
		"no task":             {nil, callbackOf(`{"code":200,"data":{}}`), 400, "invalid_body"},
		"bad task":            {nil, callbackOf(`{"data":{"task_id":"a b"}}`), 400, "invalid_body"},
		"too deep":            {nil, callbackOf(`{"data":{"task_id":"a"},"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`), 400, "invalid_body"},
		"key twice":           {nil, callbackOf(`{"data":{"task_id":"a"},"data":{"task_id":"b"}}`), 400, "invalid_body"},
		"no UTF-8":            {nil, callbackOf("{\"data\":{\"task_id\":\"a\"},\"x\":\"\xff\"}"), 400, "invalid_body"},
		"cut off":             {nil, request(func(r *http.Request) { r.ContentLength++ }), 400, "body_unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, destination(t, "a", "http://127.0.0.1:1/"))
			if tc.source != nil {
				tc.source(g.source)
			}
			w := g.send(tc.request)
			var answer struct{ Error, Message string }
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatal(err)
			}
			if w.Code != tc.want || answer.Error != tc.code || answer.Message == "" || w.Header().Get("Relay-Event-Id") != "" {
				t.Errorf("answered %d %s %v, want %d %s", w.Code, w.Body, w.Header(), tc.want, tc.code)
			}
			if allow := w.Header().Get("Allow"); (w.Code == 405) != (allow == "POST") {
				t.Errorf("Allow is %q", allow)
			}
			if events, _, err := g.Events(t.Context(), relay.EventFilter{Limit: 10}); len(events) > 0 || err != nil {
				t.Errorf("stored %v, error %v", events, err)
			}
		})
	}
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) { u.t.Error("the body was read"); return 0, io.EOF }
func (unreadable) Close() error               { return nil }

// A body that trickles in is cut off while the store still has its share of the time.
func TestSlowBody(t *testing.T) {
	g := newGateway(t, destination(t, "a", "http://127.0.0.1:1/"))
	g.source.AckWithin = 200 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.Receive(w, r, g.source, netip.MustParseAddr("203.0.113.7"))
	}))
	defer server.Close()
	body, write := io.Pipe()
	defer func() { _ = write.Close() }()
	go func() { _, _ = write.Write([]byte(`{"code":`)) }()
	res, err := server.Client().Post(server.URL, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answered %d", res.StatusCode)
	}
}

// Who withholds a body gets the answer in time all the same, although a server reads what is left of a body before it
// answers who has not read it.
func TestWithheldBody(t *testing.T) {
	g := newGateway(t, destination(t, "a", "http://127.0.0.1:1/"))
	g.source.AckWithin = time.Second
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.Receive(w, r, g.source, netip.MustParseAddr("203.0.113.7"))
	}))
	defer server.Close()
	for head, want := range map[string]int{
		"POST / HTTP/1.1\r\nContent-Type: application/json": http.StatusRequestTimeout,
		"POST / HTTP/1.1\r\nContent-Type: text/plain":       http.StatusUnsupportedMediaType,
		"PUT / HTTP/1.1\r\nContent-Type: application/json":  http.StatusMethodNotAllowed,
	} {
		start := time.Now()
		status := withhold(t, server, head)
		// Where the server reads the rest of the body first, the answer never comes; a busy machine is only slow.
		if took := time.Since(start); status != want || took > 10*g.source.AckWithin {
			t.Errorf("%q: answered %d after %v, want %d", head, status, took, want)
		}
	}
}

// withhold announces a body, sends one byte of it, and returns the status of the answer.
func withhold(t *testing.T, server *httptest.Server, head string) (status int) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head+"\r\nHost: localhost\r\nContent-Length: 400\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// What senders only announce takes no room from others.
func TestAnnouncedBodies(t *testing.T) {
	g := newGateway(t, destination(t, "a", "http://127.0.0.1:1/"))
	var senders sync.WaitGroup
	body, withheld := io.Pipe()
	for range 2 * (256 << 20) / relay.DefaultMaxBody {
		r := httptest.NewRequest(http.MethodPost, "/callback", struct{ io.Reader }{body})
		r.Header.Set("Content-Type", "application/json")
		r.ContentLength = relay.DefaultMaxBody
		senders.Go(func() { g.send(r) })
	}
	g.mustAccept("task-1")
	_ = withheld.Close()
	senders.Wait()
	large := fmt.Sprintf(`{"code":200,"data":{"task_id":"task-2"},"x":%q}`, strings.Repeat("x", 900<<10))
	for _, length := range []int64{int64(len(large)), -1} {
		r := callbackOf(large)
		r.ContentLength = length
		if w := g.send(r); w.Code != http.StatusOK {
			t.Errorf("a large body of announced length %d was answered %d %s", length, w.Code, w.Body)
		}
	}
}

func TestUnmatchedEventIsDelivered(t *testing.T) {
	c := newConsumer(t, nil)
	dst := destination(t, "a", c.URL)
	var err error
	if dst.When, err = filter.Parse(`code == 500`); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, dst)
	w := httptest.NewRecorder()
	receipt := g.Receive(w, callback("task-1"), g.source, netip.Addr{})
	if receipt.Result != relay.ResultUnmatched || w.Code != 200 {
		t.Errorf("receipt %+v, answered %d", receipt, w.Code)
	}
	rec, err := g.Event(t.Context(), receipt.EventID)
	if err != nil || rec.State() != relay.StateDelivered || len(rec.Deliveries) != 0 {
		t.Errorf("event %+v, error %v", rec, err)
	}
}

// A filter that cannot be evaluated must not lose the callback. It is logged and counted for each event, and not for a callback
// that comes again: that one makes no event, and is not delivered.
func TestWhenThatFailsDelivers(t *testing.T) {
	var logged logLines
	c := newConsumer(t, nil)
	dst := destination(t, "a", c.URL)
	dst.When = undecidable(t)
	g := newGateway(t, dst)
	g.source.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	first := g.mustAccept("task-1")
	c.next(t)
	if again := g.mustAccept("task-1"); again != first {
		t.Fatalf("the repetition became the event %s", again)
	}
	conflict := strings.Replace(callbackText("task-1"), "v.mp3", "other.mp3", 1)
	if w := g.send(callbackOf(conflict)); w.Header().Get("Relay-Event-Id") != first {
		t.Fatalf("the conflict was answered %d %s", w.Code, w.Body)
	}
	second := g.mustAccept("task-2")
	c.next(t)
	const line = "cannot be evaluated"
	g.await("the last event is logged", func() bool { return logged.count(line, second) == 1 })
	if n, ofFirst := logged.count(line), logged.count(line, first); n != 2 || ofFirst != 1 {
		t.Errorf("two events made %d lines, the first one %d", n, ofFirst)
	}
	if n := values(t, g.metrics, "caddy_relay_when_errors_total")[""]; n != 2 {
		t.Errorf("two events are counted as %v", n)
	}
}

// undecidable returns a filter that cannot be evaluated for any event.
func undecidable(t *testing.T) relay.Filter {
	t.Helper()
	f, err := filter.Parse(`data.absent == "x"`)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
