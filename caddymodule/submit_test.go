package caddymodule

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/relay"
)

func init() { caddy.RegisterModule(new(watchedSubmit)) }

// watchedSubmit is a relay_submit whose tasks the test sees.
type watchedSubmit struct{ Submit }

func (*watchedSubmit) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.relay_test_submit", New: func() caddy.Module { return new(watchedSubmit) }}
}

func (s *watchedSubmit) Provision(ctx caddy.Context) error {
	err := s.Submit.Provision(ctx)
	s.tasks = &expectedTasks
	return err
}

// tasksSeen notes what is expected, and whether the application had its answer by then.
type tasksSeen struct {
	sync.Mutex
	tasks    []string
	answered bool
	early    bool
	fail     error
}

var expectedTasks tasksSeen

func (s *tasksSeen) Expect(ctx context.Context, source *relay.Source, taskID, api string) error {
	s.Lock()
	defer s.Unlock()
	if _, bounded := ctx.Deadline(); !bounded || ctx.Err() != nil {
		return errors.New("the time is not bounded, or over")
	}
	s.tasks = append(s.tasks, source.Name+" "+taskID+" "+api)
	s.early = s.early || s.answered
	return s.fail
}

func (s *tasksSeen) reset(fail error) {
	s.Lock()
	defer s.Unlock()
	s.tasks, s.answered, s.early, s.fail = nil, false, false, fail
}

// submitGateway runs a gateway in front of a provider. The test sees its tasks.
func submitGateway(t *testing.T, provider http.HandlerFunc) *gateway {
	t.Helper()
	return gatewayWith(t, "relay_test_submit", provider)
}

func gatewayWith(t *testing.T, handler string, provider http.HandlerFunc) *gateway {
	t.Helper()
	upstream := httptest.NewServer(provider)
	t.Cleanup(upstream.Close)
	expectedTasks.reset(nil)
	g := newGateway(t)
	proxy := map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": upstream.Listener.Addr().String()}}}
	submit := map[string]any{
		"handler": handler, "source": "vocals", "callback_url": "https://hooks.example.com/vocals?a=1&token=s3cret",
	}
	site := map[string]any{"handler": "subroute", "routes": []any{map[string]any{"handle": []any{submit, proxy}}}}
	source := handlerConfig(t, map[string]any{"recover": map[string]any{}}, nil)
	plain := handlerConfig(t, map[string]any{"source": "plain"}, nil)
	g.mustLoad(`{}`, source, plain, site)
	return g
}

// answered holds the answer that an application gets.
type answered struct {
	status          int
	header, trailer http.Header
	body            string
}

// submit sends a request. The error may come beside a part of the answer.
func (g *gateway) submit(method, path, contentType string, body io.Reader, header ...string) (answered, error) {
	g.t.Helper()
	r, err := http.NewRequest(method, "http://gateway"+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := g.client.Transport.(redialing).RoundTrip(r)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = res.Body.Close() }()
	expectedTasks.Lock()
	expectedTasks.answered = true
	expectedTasks.Unlock()
	b, err := io.ReadAll(res.Body)
	return answered{res.StatusCode, res.Header, res.Trailer, string(b)}, err
}

const vocalPath = "/api/v1/vocal-removal/generate"

// echo answers like a provider that accepts a task whose id is in the request, and notes the request.
func echo(seen *http.Request, body *string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		*seen, *body = *r, string(b)
		w.Header().Set("X-Provider", "suno")
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		_, _ = io.WriteString(w, `{"code":200,"msg":"success","data":{"taskId":"t-1"}}`)
	}
}

func TestSubmit(t *testing.T) {
	var seen http.Request
	var body string
	g := submitGateway(t, echo(&seen, &body))
	res, err := g.submit("POST", vocalPath+"?a=b", "application/json",
		strings.NewReader(`{"taskId": "x",  "CallBackUrl":"http://evil.example.com", "n": 1.0}`), "Accept-Encoding", "gzip")
	if err != nil || res.status != http.StatusOK || res.body != `{"code":200,"msg":"success","data":{"taskId":"t-1"}}` || res.header.Get("X-Provider") != "suno" {
		t.Errorf("answer %+v, %v", res, err)
	}
	if body != `{"callBackUrl":"https://hooks.example.com/vocals?a=1&token=s3cret","taskId": "x", "n": 1.0}` {
		t.Errorf("the provider got %s", body)
	}
	if seen.ContentLength != int64(len(body)) || seen.Header.Get("Accept-Encoding") != "identity" || seen.RequestURI != vocalPath+"?a=b" {
		t.Errorf("the provider got %+v", seen)
	}
	if expectedTasks.early || !reflect.DeepEqual(expectedTasks.tasks, []string{"vocals t-1 api/v1/vocal-removal/generate"}) {
		t.Errorf("expected %q, after the answer: %v", expectedTasks.tasks, expectedTasks.early)
	}
	if strings.Contains(logged(), "s3cret") {
		t.Error("the token is in the log")
	}

	if _, err = g.submit("POST", "/api/v1/voice/regenerate", "application/json; charset=utf-8", strings.NewReader(`{"calbackurl":1,"callBackUrl":2}`)); err != nil {
		t.Error(err)
	}
	if body != `{"calBackUrl":"https://hooks.example.com/vocals?a=1&token=s3cret"}` {
		t.Errorf("voice/regenerate got %s", body)
	}
}

// TestSubmitRegisters: the engine has the task once the application has its answer.
func TestSubmitRegisters(t *testing.T) {
	var seen http.Request
	var body string
	g := gatewayWith(t, "relay_submit", echo(&seen, &body))
	if res, err := g.submit("POST", vocalPath, "application/json", strings.NewReader(`{}`)); err != nil || res.status != http.StatusOK {
		t.Fatalf("%+v, %v", res, err)
	}
	tasks, _, err := activeApp(t).pooled.Tasks(t.Context(), relay.TaskFilter{Limit: 10})
	if err != nil || len(tasks) != 1 || tasks[0].Source != "vocals" || tasks[0].TaskID != "t-1" || tasks[0].API != "api/v1/vocal-removal/generate" {
		t.Errorf("%+v, %v", tasks, err)
	}
}

// TestSubmitRefuses: what cannot be rewritten never gets to the provider.
func TestSubmitRefuses(t *testing.T) {
	g := submitGateway(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the provider got %s", r.URL) })
	large := `{"a":"` + strings.Repeat("x", maxSubmission) + `"}`
	for name, c := range map[string]struct {
		body   io.Reader
		header []string
		status int
		code   string
	}{
		"too large":     {strings.NewReader(large), nil, 413, "body_too_large"},
		"chunked":       {io.MultiReader(strings.NewReader(large)), nil, 413, "body_too_large"},
		"encoded":       {strings.NewReader(`{}`), []string{"Content-Encoding", "gzip"}, 415, "unsupported_encoding"},
		"array":         {strings.NewReader(`[{}]`), nil, 400, "invalid_body"},
		"trailing":      {strings.NewReader(`{} x`), nil, 400, "invalid_body"},
		"empty":         {strings.NewReader(``), nil, 400, "invalid_body"},
		"invalid UTF-8": {strings.NewReader("{\"a\":\"\xff\"}"), nil, 400, "invalid_body"},
	} {
		res, err := g.submit("POST", vocalPath, "application/json", c.body, c.header...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var e struct{ Error, Message string }
		if json.Unmarshal([]byte(res.body), &e) != nil || res.status != c.status || e.Error != c.code || !strings.HasSuffix(e.Message, ".") {
			t.Errorf("%s: %d %s", name, res.status, res.body)
		}
	}
}

// TestSubmitTypes: a provider that reads JSON in a request never gets the application's own callback URL from it, however the
// type is written.
func TestSubmitTypes(t *testing.T) {
	var seen http.Request
	var body string
	g := submitGateway(t, echo(&seen, &body))
	for _, types := range [][]string{
		{"application/json"},
		{"APPLICATION/JSON ; charset=utf-8"},
		{"application/vnd.api+json"},
		{"application/json; charset"},
		{"text/json"},
		{"application/json charset=utf-8"},
		{"text/plain, application/json"},
		{"text/plain", "application/json"},
		{"application/json", "text/plain"},
	} {
		r, err := http.NewRequest(http.MethodPost, "http://gateway"+vocalPath, strings.NewReader(`{"callBackUrl":"http://evil.example.com"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header["Content-Type"] = types
		res, err := g.client.Transport.(redialing).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if want := `{"callBackUrl":"https://hooks.example.com/vocals?a=1&token=s3cret"}`; res.StatusCode != http.StatusOK || body != want {
			t.Errorf("%q: %d, the provider got %s", types, res.StatusCode, body)
		}
	}
}

// TestSubmitLargest: a body of exactly 1 MiB is taken.
func TestSubmitLargest(t *testing.T) {
	var seen http.Request
	var body string
	g := submitGateway(t, echo(&seen, &body))
	largest := `{"a":"` + strings.Repeat("x", maxSubmission-8) + `"}`
	res, err := g.submit("POST", vocalPath, "application/json", io.MultiReader(strings.NewReader(largest)))
	if err != nil || res.status != http.StatusOK || !strings.HasSuffix(body, `,`+largest[1:]) || len(expectedTasks.tasks) != 1 {
		t.Errorf("%v, %v, %d bytes, %q", res, err, len(body), expectedTasks.tasks)
	}
}

// TestSubmitPasses: what submits no task is not touched.
func TestSubmitPasses(t *testing.T) {
	var seen http.Request
	var body string
	g := submitGateway(t, echo(&seen, &body))
	large := `{"callBackUrl":"x","a":"` + strings.Repeat("x", 2*maxSubmission) + `"}`
	for _, c := range []struct{ method, contentType, body string }{
		{"GET", "", ""},
		{"PUT", "application/json", `{"callBackUrl":"x"}`},
		{"POST", "application/octet-stream", large},
		{"POST", "multipart/form-data; boundary=x", "--x--"},
		{"POST", "", "{}"},
		{"POST", "application/jsonl", "{}\n{}"},
	} {
		res, err := g.submit(c.method, vocalPath, c.contentType, io.MultiReader(strings.NewReader(c.body)), "Accept-Encoding", "br")
		if err != nil || res.status != http.StatusOK || body != c.body || seen.Header.Get("Accept-Encoding") != "br" {
			t.Errorf("%s %s: %v, %v, %.50s, %v", c.method, c.contentType, res, err, body, seen.Header)
		}
	}
	if len(expectedTasks.tasks) > 0 {
		t.Errorf("expected %q", expectedTasks.tasks)
	}
}

// TestSubmitAnswers: every answer gets to the application as the provider sent it, whether or not it names a task.
func TestSubmitAnswers(t *testing.T) {
	task := `{"code":200,"msg":"success","data":{"taskId":"t-1"}}`
	padded := func(n int) string { return task + strings.Repeat(" ", n-len(task)) }
	var answer func(w http.ResponseWriter)
	g := submitGateway(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w)
	})
	typed := func(contentType, body string, status int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	chunked := func(parts ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			for _, p := range parts {
				_, _ = io.WriteString(w, p)
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		status int
		body   string
		task   bool
	}{
		"snake_case":            {typed("application/json", `{"code":"200","data":{"task_id":"t-1"}}`, 200), 200, `{"code":"200","data":{"task_id":"t-1"}}`, true},
		"beside data":           {typed("application/json", `{"code":200,"taskId":"t-1","data":null}`, 200), 200, `{"code":200,"taskId":"t-1","data":null}`, true},
		"created":               {typed("application/json", task, 201), 201, task, true},
		"text":                  {typed("text/plain; charset=utf-8", task, 200), 200, task, true},
		"byte order mark":       {typed("application/json", "\ufeff"+task, 200), 200, "\ufeff" + task, true},
		"another code":          {typed("application/json", `{"code":455,"msg":"maintenance","data":{"taskId":"t-1"}}`, 200), 200, `{"code":455,"msg":"maintenance","data":{"taskId":"t-1"}}`, false},
		"no task":               {typed("application/json", `{"code":200,"data":100}`, 200), 200, `{"code":200,"data":100}`, false},
		"an error":              {typed("application/json", task, 500), 500, task, false},
		"not JSON":              {typed("application/json", `{"code":200,`, 200), 200, `{"code":200,`, false},
		"a page":                {typed("text/html", task, 200), 200, task, false},
		"nothing":               {typed("application/json", "", 200), 200, "", false},
		"no content":            {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, 204, "", false},
		"chunked":               {chunked(task[:10], task[10:]), 200, task, true},
		"64 KiB":                {typed("application/json", padded(maxAnswer), 200), 200, padded(maxAnswer), true},
		"more than 64 KiB":      {typed("application/json", padded(maxAnswer+1), 200), 200, padded(maxAnswer + 1), false},
		"64 KiB in chunks":      {chunked(padded(maxAnswer-1), " "), 200, padded(maxAnswer), true},
		"more, in chunks":       {chunked(padded(maxAnswer), " "), 200, padded(maxAnswer + 1), false},
		"much more, in chunks":  {chunked(padded(40<<10), padded(40<<10), padded(40<<10)), 200, padded(40<<10) + padded(40<<10) + padded(40<<10), false},
		"text that is no JSON ": {typed("text/plain", "ok\n", 200), 200, "ok\n", false},
	} {
		expectedTasks.reset(nil)
		answer = c.answer
		res, err := g.submit("POST", vocalPath, "application/json", strings.NewReader(`{}`))
		if err != nil || res.status != c.status || res.body != c.body {
			t.Errorf("%s: %d, %d bytes, %v", name, res.status, len(res.body), err)
		}
		want := []string(nil)
		if c.task {
			want = []string{"vocals t-1 api/v1/vocal-removal/generate"}
		}
		if !reflect.DeepEqual(expectedTasks.tasks, want) || expectedTasks.early {
			t.Errorf("%s: expected %q, after the answer: %v", name, expectedTasks.tasks, expectedTasks.early)
		}
	}

	expectedTasks.reset(errors.New("the store is away"))
	answer = typed("application/json", task, 200)
	res, err := g.submit("POST", vocalPath, "application/json", strings.NewReader(`{}`))
	if err != nil || res.status != http.StatusOK || res.body != task || len(expectedTasks.tasks) != 1 {
		t.Errorf("a task that cannot be registered: %+v, %v", res, err)
	}
}

// TestSubmitEncoded: an answer that is encoded nevertheless passes as it is.
func TestSubmitEncoded(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, `{"code":200,"data":{"taskId":"t-1"}}`)
	_ = z.Close()
	g := submitGateway(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped.Bytes())
	})
	res, err := g.submit("POST", vocalPath, "application/json", strings.NewReader(`{}`), "Accept-Encoding", "gzip")
	if err != nil || res.header.Get("Content-Encoding") != "gzip" || res.body != zipped.String() || len(expectedTasks.tasks) > 0 {
		t.Errorf("%+v, %v, %q", res, err, expectedTasks.tasks)
	}
}

// TestSubmitStreams: a stream gets to the application while it goes on, early hints before the answer, and trailers after it.
func TestSubmitStreams(t *testing.T) {
	more := make(chan bool)
	g := submitGateway(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = rc.Flush()
			<-more
			_, _ = io.WriteString(w, "data: 2\n\n")
		case "/trailer":
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"code":200,"data":{"taskId":"t-1"}}`)
			_ = rc.Flush()
			w.Header().Set("X-Sum", "abc")
			w.Header().Set(http.TrailerPrefix+"X-Late", "def")
		}
	})
	r, _ := http.NewRequest(http.MethodPost, "http://gateway/events", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	res, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewReader(res.Body)
	if line, err := lines.ReadString('\n'); line != "data: 1\n" {
		t.Errorf("%q, %v", line, err)
	}
	close(more)
	if rest, err := io.ReadAll(lines); string(rest) != "\ndata: 2\n\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}

	answer, err := g.submit("POST", "/trailer", "application/json", strings.NewReader("{}"))
	if err != nil || answer.body == "" || answer.trailer.Get("X-Sum") != "abc" || answer.trailer.Get("X-Late") != "def" || answer.header.Get("X-Sum") != "" || answer.header.Get("Link") != "" {
		t.Errorf("%+v, %v", answer, err)
	}
	if !reflect.DeepEqual(expectedTasks.tasks, []string{"vocals t-1 trailer"}) {
		t.Errorf("expected %q", expectedTasks.tasks)
	}
}

// TestSubmitCut: an answer that breaks off gets to the application as far as it came, and its task is registered if it named it.
func TestSubmitCut(t *testing.T) {
	task := `{"code":200,"data":{"taskId":"t-1"}}`
	var head, part string
	g := submitGateway(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%s\r\n\r\n%s", head, part)
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.Close()
	})
	for _, c := range []struct {
		head, part, body string
		tasks            int
	}{
		{"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", len(task), task), task, 1},
		{"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", 10, task[:10]), task[:10], 0},
	} {
		expectedTasks.reset(nil)
		head, part = c.head, c.part
		res, err := g.submit("POST", vocalPath, "application/json", strings.NewReader("{}"))
		if err == nil || res.status != http.StatusOK || res.body != c.body || len(expectedTasks.tasks) != c.tasks {
			t.Errorf("%+v, %v, %q", res, err, expectedTasks.tasks)
		}
	}
}

// TestSubmitNames: the path before a rewrite names the API where the path after it does not.
func TestSubmitNames(t *testing.T) {
	for _, c := range [][3]string{
		{"/api/v1/generate", "", "api/v1/generate"},
		{"/api/v1/generate/extend/", "", "api/v1/generate/extend"},
		{"/suno/api/v1/jobs/createTask", "", "api/v1/jobs/createTask"},
		{"/generate", "/api/v1/generate", "api/v1/generate"},
		{"/api/v2/x", "/api/v1/y", "api/v2/x"},
		{"/xapi/v1/generate", "", "xapi/v1/generate"},
		{"/", "", ""},
	} {
		r := httptest.NewRequest(http.MethodPost, c[0], nil)
		if c[1] != "" {
			original := *httptest.NewRequest(http.MethodPost, c[1], nil)
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.OriginalRequestCtxKey, original))
		}
		if api := submittedTo(r); api != c[2] {
			t.Errorf("%v: got %s", c, api)
		}
	}
}
