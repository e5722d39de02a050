package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callbackrelay/caddy-relay/relay"
)

// delivered is a request as a destination gets it.
type delivered struct {
	http.Header
	body string
}

// recorder is a downstream webhook that keeps what it gets.
func recorder(t *testing.T) (url string, next func() delivered) {
	t.Helper()
	got := make(chan delivered, 1024)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- delivered{r.Header.Clone(), string(body)}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() delivered {
		t.Helper()
		select {
		case d := <-got:
			return d
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was delivered")
			return delivered{}
		}
	}
}

// reply is the answer that a sender receives.
type reply struct {
	status    int
	event     string
	duplicate bool
}

// send sends a callback. An empty Content-Type is not sent.
func (g *gateway) send(source, contentType, body string, header map[string]string) reply {
	g.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://gateway/"+source, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return reply{res.StatusCode, res.Header.Get("Relay-Event-Id"), res.Header.Get("Relay-Duplicate") == "true"}
}

// counted returns how many callbacks of a source had a result.
func counted(t *testing.T, source, result string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(metrics); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "caddy_relay_callbacks_total" && hasLabels(m, map[string]string{"source": source, "result": result}) {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("%s of %s is not counted", result, source)
	return 0
}

// awaitCount waits until so many callbacks are counted, which happens after the answer.
func awaitCount(t *testing.T, source, result string, want float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v callbacks of %s are %s", want, source, result), func() bool { return counted(t, source, result) >= want })
	if got := counted(t, source, result); got != want {
		t.Errorf("%v callbacks of %s are %s, want %v", got, source, result, want)
	}
}

// named is a handler of a source that delivers to a URL.
func named(t *testing.T, source, url string, fields map[string]any) map[string]any {
	t.Helper()
	h := to(t, url, fields)
	h["source"] = source
	return h
}

func TestForm(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	g := newGateway(t)
	url, next := recorder(t)
	h := named(t, "form", url, map[string]any{
		"body":     "form",
		"provider": map[string]any{"name": "custom", "task_id": "id", "code": "code", "stage": "status", "files": "file_url"},
		"verify":   []any{map[string]any{"verifier": "token", "secret": "s3cret", "body": "token"}},
	})
	other, _ := recorder(t)
	h["destinations"] = append(h["destinations"].([]any), map[string]any{
		"name": "paid", "url": other, "when": `data.plan == "paid & more" && msg == "done" && code == 200`,
	})
	g.mustLoad(`{}`, h)

	const body = "id=t-1&code=200&status=done&token=s3cret&plan=paid+%26+more&msg=done&file_url=https%3A%2F%2Ff.example%2Fa+b.mp3\r\n"
	first := g.send("form", form+"; charset=utf-8", body, nil)
	if first.status != http.StatusOK || first.duplicate {
		t.Fatalf("answered %+v", first)
	}
	if d := next(); d.body != body || d.Get("Content-Type") != form+"; charset=utf-8" || d.Get("Relay-Task-Id") != "t-1" {
		t.Errorf("delivered %+v", d)
	}
	rec, err := activeApp(t).pooled.Event(t.Context(), first.event)
	if err != nil || rec.Stage != "done" || rec.Code != "200" || len(rec.Deliveries) != 2 {
		t.Errorf("%+v, %v", rec, err)
	}
	if files, total := activeApp(t).pooled.Files(rec); total != 1 || files[0] != "https://f.example/a b.mp3" {
		t.Errorf("files %q", files)
	}
	if again := g.send("form", form, body, nil); !again.duplicate || again.event != first.event {
		t.Errorf("the repetition was answered %+v", again)
	}
	free := strings.NewReplacer("t-1", "t-2", "paid", "free").Replace(body)
	if rec, err := activeApp(t).pooled.Event(t.Context(), g.send("form", form, free, nil).event); err != nil || len(rec.Deliveries) != 1 {
		t.Errorf("%+v, %v", rec, err)
	}
	for _, c := range []struct {
		contentType, body string
		want              int
	}{
		{"application/json", `{"id":"t-3","token":"s3cret"}`, http.StatusUnsupportedMediaType},
		{"", "id=t-3&token=s3cret", http.StatusUnsupportedMediaType},
		{form, "id=t-3&token=wrong", http.StatusUnauthorized},
		{form, "token=s3cret", http.StatusBadRequest},
		{form, "id=t-3&id=t-4&token=s3cret", http.StatusBadRequest},
		{form, "id=%zz&token=s3cret", http.StatusUnauthorized},
	} {
		if got := g.send("form", c.contentType, c.body, nil); got.status != c.want {
			t.Errorf("%s as %q was answered %d, want %d", c.body, c.contentType, got.status, c.want)
		}
	}
}

func TestAny(t *testing.T) {
	g := newGateway(t)
	url, next := recorder(t)
	h := named(t, "any", url, map[string]any{
		"body":     "any",
		"provider": map[string]any{"name": "custom", "task_id": "header:X-Task", "files_under": "files"},
	})
	never, _ := recorder(t)
	h["destinations"] = append(h["destinations"].([]any),
		map[string]any{"name": "on", "url": never, "when": `data.state == "on"`})
	g.mustLoad(`{}`, h, named(t, "nameless", url, map[string]any{"body": "any", "provider": map[string]any{"name": "custom"}}))
	for body, c := range map[string]struct {
		contentType string
		deliveries  int // what cannot be evaluated is delivered
	}{
		`[{"id":1},{"id":2}]`:                      {"application/json", 2},
		"\x00\xff not JSON":                        {"application/octet-stream", 2},
		"":                                         {"", 2},
		"a plain text":                             {"text/plain; charset=iso-8859-1", 2},
		`{"data":{"state":"off"},"files":{}}`:      {"application/json", 1},
		`{"data":{"state":"on"}}`:                  {"", 2},
		`{"data":{"state":"off"},"data":{}}`:       {"", 2}, // of which nobody knows what it says
		strings.Repeat("[", 1<<20):                 {"application/json", 2},
		`{"data":` + strings.Repeat("{\"a\":", 99): {"application/json", 2},
	} {
		got := g.send("any", c.contentType, body, nil)
		if got.status != http.StatusOK {
			t.Errorf("%.40q was answered %+v", body, got)
			continue
		}
		d := next()
		if types, sent := d.Header["Content-Type"]; d.body != body || sent != (c.contentType != "") || sent && types[0] != c.contentType {
			t.Errorf("%.40q was delivered as %q: %.40q", body, types, d.body)
		}
		sum := sha256.Sum256([]byte(body))
		if id := d.Get("Relay-Task-Id"); id != hex.EncodeToString(sum[:]) {
			t.Errorf("%.40q is of task %s", body, id)
		}
		rec, err := activeApp(t).pooled.Event(t.Context(), got.event)
		if err != nil || len(rec.Deliveries) != c.deliveries {
			t.Errorf("%.40q has %d deliveries, want %d; %v", body, len(rec.Deliveries), c.deliveries, err)
		}
		if again := g.send("any", c.contentType, body, nil); !again.duplicate || again.event != got.event {
			t.Errorf("%.40q was answered %+v when it came again", body, again)
		}
	}
	named := g.send("any", "text/plain", "one", map[string]string{"X-Task": "job-1"})
	if d := next(); d.Get("Relay-Task-Id") != "job-1" || d.body != "one" {
		t.Errorf("delivered %+v", d)
	}
	if again := g.send("any", "text/plain", "one", map[string]string{"X-Task": "job-1"}); !again.duplicate || again.event != named.event {
		t.Errorf("answered %+v", again)
	}
	nameless := g.send("nameless", "", "one", map[string]string{"X-Task": "job-1"})
	if d, sum := next(), sha256.Sum256([]byte("one")); nameless.status != http.StatusOK || d.Get("Relay-Task-Id") != hex.EncodeToString(sum[:]) {
		t.Errorf("answered %+v, delivered %+v", nameless, d)
	}
	if got := g.send("any", strings.Repeat("x", 2<<10), "one", nil); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("a long Content-Type was answered %+v", got)
	}
}

func TestHeaderTask(t *testing.T) {
	g := newGateway(t)
	url, next := recorder(t)
	g.mustLoad(`{}`, named(t, "header", url, map[string]any{"provider": map[string]any{
		"name": "custom", "task_id": "header:X-Job", "stage": "result.state", "files_under": "result.out", "json_text": "result",
	}}))
	body, _ := json.Marshal(map[string]any{"result": `{"state":"done","out":{"deep":[{"u":"HTTPS://f.example/a"},"no file"]}}`})
	got := g.send("header", "application/json", string(body), map[string]string{"X-Job": "job-7"})
	if d := next(); got.status != http.StatusOK || d.Get("Relay-Task-Id") != "job-7" {
		t.Fatalf("answered %+v, delivered %+v", got, d)
	}
	status, event := admin(t, http.MethodGet, "/relay/events/"+got.event, "")
	if _, cut := event["files_total"]; status != http.StatusOK || event["stage"] != "done" || fmt.Sprint(event["files"]) != "[HTTPS://f.example/a]" || cut {
		t.Errorf("%d: %v", status, event)
	}
	if got := g.send("header", "application/json", string(body), nil); got.status != http.StatusBadRequest {
		t.Errorf("without the header: %+v", got)
	}
}

func TestManyFiles(t *testing.T) {
	g := newGateway(t)
	url, next := recorder(t)
	g.mustLoad(`{}`, named(t, "many", url, nil))
	files := make([]string, 300)
	for i := range files {
		files[i] = fmt.Sprintf("https://f.example/a file %d.png", i)
	}
	body, _ := json.Marshal(map[string]any{"code": 200, "data": map[string]any{"taskId": "t", "images": files}})
	got := g.send("many", "application/json", string(body), nil)
	if d := next(); d.body != string(body) {
		t.Errorf("delivered %.80q", d.body)
	}
	_, event := admin(t, http.MethodGet, "/relay/events/"+got.event, "")
	shown, _ := event["files"].([]any)
	if len(shown) != 256 || shown[0] != files[0] || event["files_total"] != 300.0 {
		t.Errorf("%d files of %v are shown", len(shown), event["files_total"])
	}
}

func TestMaxBody(t *testing.T) {
	g := newGateway(t)
	url, next := recorder(t)
	g.mustLoad(`{}`, named(t, "usual", url, nil), named(t, "large", url, map[string]any{"max_body": relay.MaxBodyLimit}))
	g.client.Transport.(redialing).ExpectContinueTimeout = 20 * time.Second // a body that is refused is not sent
	sized := func(n int) string {
		const head, tail = `{"code":200,"data":{"task_id":"t"},"x":"`, `"}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	for _, c := range []struct {
		source string
		size   int
		want   int
	}{
		{"usual", relay.DefaultMaxBody, http.StatusOK},
		{"usual", relay.DefaultMaxBody + 1, http.StatusRequestEntityTooLarge},
		{"large", relay.MaxBodyLimit, http.StatusOK},
		{"large", relay.MaxBodyLimit + 1, http.StatusRequestEntityTooLarge},
	} {
		body := sized(c.size)
		if got := g.send(c.source, "application/json", body, map[string]string{"Expect": "100-continue"}); got.status != c.want {
			t.Errorf("%d bytes for %s were answered %+v", c.size, c.source, got)
		} else if c.want == http.StatusOK {
			if d := next(); d.body != body {
				t.Errorf("%d bytes were delivered, not %d", len(d.body), c.size)
			}
			if status, event := admin(t, http.MethodGet, "/relay/events/"+got.event, ""); status != http.StatusOK || event["payload"] == nil {
				t.Errorf("shown with %d", status)
			}
		}
	}
}

func TestAllowFrom(t *testing.T) {
	g := newGateway(t)
	g.server = map[string]any{"trusted_proxies_unix": true, "trusted_proxies_strict": 1}
	url, next := recorder(t)
	lists := map[string]any{
		"allow": []string{"203.0.113.7"},
		"allow_from": []any{
			map[string]any{"source": "static", "ranges": []string{"198.51.100.0/24"}},
			map[string]any{"source": "static", "ranges": []string{"2001:db8::1"}},
		},
	}
	observing := map[string]any{"allow_mode": "observe", "allow_from": lists["allow_from"]}
	g.mustLoad(`{}`, named(t, "lists", url, lists), named(t, "observing", url, observing))
	const body = `{"code":200,"data":{"task_id":"%d"}}`
	denied, observed, accepted := counted(t, "lists", relay.ResultDenied), counted(t, "observing", relay.ResultDeniedObserved), counted(t, "observing", relay.ResultAccepted)
	for i, c := range []struct {
		address string
		want    int
	}{
		{"203.0.113.7", 200},
		{"198.51.100.9", 200},
		{"2001:db8::1", 200},
		{"::ffff:198.51.100.9", 200},
		{"203.0.113.8", 403},
		{"2001:db8::2", 403},
		{"192.0.2.1", 403},
	} {
		for source, want := range map[string]int{"lists": c.want, "observing": http.StatusOK} {
			got := g.send(source, "application/json", fmt.Sprintf(body, i), map[string]string{"X-Forwarded-For": c.address})
			if got.status != want {
				t.Errorf("%s was answered %d by %s", c.address, got.status, source)
			} else if want == http.StatusOK {
				next()
			}
		}
	}
	awaitCount(t, "lists", relay.ResultDenied, denied+3)
	// Who is let in has another result, too.
	awaitCount(t, "observing", relay.ResultDeniedObserved, observed+4)
	awaitCount(t, "observing", relay.ResultAccepted, accepted+7)
	eventually(t, "the log names the caller", func() bool {
		return strings.Contains(logged(), `"result":"denied_observed"`) && strings.Contains(logged(), `"client_ip":"192.0.2.1"`)
	})
	if src := activeApp(t).pooled.Status(t.Context()).Sources; len(src) != 2 || src[0].Open || !src[1].Open {
		t.Errorf("%+v", src)
	}
}

func TestConflictDeliver(t *testing.T) {
	g := newGateway(t)
	url, next := recorder(t)
	g.mustLoad(`{}`, named(t, "veo", url, map[string]any{"provider": map[string]any{"name": "kie"}, "conflict": "deliver"}))
	conflicts := counted(t, "veo", relay.ResultConflict)
	bodies := []string{fixture(t, "kie-veo.json"), fixture(t, "kie-veo-4k.json"), strings.ReplaceAll(fixture(t, "kie-veo-4k.json"), "_4k", "_8k")}
	var events []string
	for i, body := range bodies {
		got := g.send("veo", "application/json", body, map[string]string{"Relay-Conflict-With": "of the sender", "Relay-Proof": "the same"})
		if got.status != http.StatusOK || got.duplicate || slices.Contains(events, got.event) {
			t.Fatalf("%d was answered %+v", i, got)
		}
		events = append(events, got.event)
		want := ""
		if i > 0 {
			want = events[0]
		}
		if d := next(); d.body != body || d.Get("Webhook-Id") != got.event || d.Get("Relay-Conflict-With") != want {
			t.Errorf("%d was delivered as %+v", i, d)
		}
		for j := range events { // each so far, again
			if again := g.send("veo", "application/json", bodies[j], nil); again != (reply{http.StatusOK, events[j], true}) {
				t.Errorf("%d was answered %+v when it came again", j, again)
			}
		}
	}
	awaitCount(t, "veo", relay.ResultConflict, conflicts+2)
	if _, event := admin(t, http.MethodGet, "/relay/events/"+events[0], ""); event["conflicts"] != 2.0 || event["duplicates"] != 3.0 {
		t.Errorf("%v conflicts, %v duplicates", event["conflicts"], event["duplicates"])
	}
	// What is replayed still says with which event it conflicts.
	if status, answer := admin(t, http.MethodPost, "/relay/events/"+events[1]+"/replay", ""); status != http.StatusOK || answer["replayed"] != 1.0 {
		t.Fatalf("%d %v", status, answer)
	}
	if d := next(); d.body != bodies[1] || d.Get("Relay-Conflict-With") != events[0] || d.Get("Relay-Replay") != "1" {
		t.Errorf("replayed as %+v", d)
	}
}

// fixture returns a callback of the family.
func fixture(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "relay", "provider", "testdata", "family", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFamilyByHTTP sends all callbacks of the family, each twice, to a source of each name.
func TestFamilyByHTTP(t *testing.T) {
	g := newGateway(t)
	url, next := recorder(t)
	for _, provider := range []string{"suno", "kie"} {
		for _, conflict := range []string{"keep", "deliver"} {
			t.Run(provider+"/"+conflict, func(t *testing.T) {
				source := provider + "-" + conflict
				g.mustLoad(`{}`, named(t, source, url, map[string]any{"provider": map[string]any{"name": provider}, "conflict": conflict}))
				sendFamily(t, g, source, conflict, next)
			})
		}
	}
}

// later are callbacks that say something new under the key of the callback before them.
var later = map[string][2]string{
	"voice, regenerated": {"kie-voice-1-validate.json", "Harmonies fill the air=Rivers run below"},
	"another WAV":        {"kie-wav.json", "aiquickdraw.com/s=aiquickdraw.com/t"},
}

func sendFamily(t *testing.T, g *gateway, source, conflict string, next func() delivered) {
	var list []struct {
		File   string
		TaskID string `json:"task_id"`
		Stage  string
		Code   string
		Files  []string
	}
	if err := json.Unmarshal([]byte(fixture(t, "manifest.json")), &list); err != nil {
		t.Fatal(err)
	}
	first := map[string]string{} // events by what the usual key is made of
	send := func(name, key, body string) (event map[string]any, accepted bool) {
		got := g.send(source, "application/json; charset=utf-8", body, nil)
		conflicts := first[key] != ""
		accepted = !conflicts || conflict == "deliver"
		if got.status != http.StatusOK || got.duplicate == accepted || conflicts && !accepted && got.event != first[key] {
			t.Fatalf("%s was answered %+v; the first of its key is %q", name, got, first[key])
		}
		if accepted {
			if d := next(); d.body != body || d.Get("Webhook-Id") != got.event || d.Get("Relay-Conflict-With") != first[key] {
				t.Errorf("%s was delivered as %+v", name, d)
			}
		}
		if !conflicts {
			first[key] = got.event
		}
		if again := g.send(source, "application/json", body, nil); again != (reply{http.StatusOK, got.event, true}) {
			t.Errorf("%s was answered %+v when it came again, after %+v", name, again, got)
		}
		_, event = admin(t, http.MethodGet, "/relay/events/"+got.event, "")
		return event, accepted
	}
	for _, f := range list {
		key := f.TaskID + " " + f.Stage + " " + f.Code
		event, accepted := send(f.File, key, fixture(t, f.File))
		if !accepted {
			continue
		}
		var files []string
		for _, file := range event["files"].([]any) {
			files = append(files, file.(string))
		}
		if event["task_id"] != f.TaskID || event["stage"] != f.Stage || event["code"] != f.Code ||
			slices.ContainsFunc(f.Files, func(file string) bool { return !slices.Contains(files, file) }) {
			t.Errorf("%s reads %v of %v, stage %v, code %v", f.File, files, event["task_id"], event["stage"], event["code"])
		}
		for name, l := range later {
			if l[0] == f.File {
				before, after, _ := strings.Cut(l[1], "=")
				send(name, key, strings.Replace(fixture(t, f.File), before, after, 1))
			}
		}
		if f.File == "kie-lyrics.json" { // moderated: the same task fails after all
			send("lyrics, moderated", f.TaskID+" "+f.Stage+" 400", strings.Replace(fixture(t, f.File), `"code":200`, `"code":400`, 1))
		}
	}
}
