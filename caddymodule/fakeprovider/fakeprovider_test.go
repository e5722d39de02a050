package fakeprovider_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// quick are options with which nothing takes long.
var quick = fakeprovider.Options{Seed: 7, Speed: 1e6, FileSize: 10_001, Timeout: time.Minute}

func start(t *testing.T, o fakeprovider.Options) *fakeprovider.Server {
	t.Helper()
	s, err := fakeprovider.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// receiver is a server that takes callbacks.
type receiver struct {
	url    string
	bodies chan []byte
}

// receive starts a receiver that answers the nth callback, counted from 0, with a status.
func receive(t *testing.T, status func(n int) int) *receiver {
	t.Helper()
	r := &receiver{bodies: make(chan []byte, 1000)}
	numbers := make(chan int, 1)
	numbers <- 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		n := <-numbers
		numbers <- n + 1
		w.WriteHeader(status(n))
		r.bodies <- body
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func always(status int) func(int) int { return func(int) int { return status } }

// ask sends a request, and returns the answer.
func ask(t *testing.T, method, url, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer key")
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}

type answer struct {
	Code int
	Data struct{ TaskID string }
}

func submit(t *testing.T, s *fakeprovider.Server, api, callback, more string) (a answer) {
	t.Helper()
	status, body := ask(t, "POST", s.URL+"/api/v1/"+api, fmt.Sprintf(`{"callBackUrl":%q%s}`, callback, more))
	if err := json.Unmarshal(body, &a); err != nil || status != 200 {
		t.Fatalf("%s: %d %s, %v", api, status, body, err)
	}
	return a
}

// TestAPIs holds that callbacks and details of every API say the same to whoever reads them.
func TestAPIs(t *testing.T) {
	family := provider.Suno()
	for api, callbacks := range map[string]int{
		"generate": 3, "generate/upload-cover": 3, "lyrics": 1, "vocal-removal/generate": 1, "wav/generate": 1, "mp4/generate": 1, "suno/cover/generate": 1,
		"midi/generate": 1, "voice/validate": 1, "voice/generate": 1, "veo/generate": 1, "veo/get-4k-video": 1, "flux/kontext/generate": 1,
		"aleph/generate": 1, "modify/generate": 1, "gpt4o-image/generate": 1, "runway/extend": 1, "jobs/createTask": 1,
	} {
		for _, code := range []int{0, 501} {
			s, r := start(t, quick), receive(t, always(200))
			if code != 0 {
				callbacks = 1
			}
			id := submit(t, s, api, r.url, fmt.Sprintf(`,"taskId":"task_1","fate":{"code":%d}`, code)).Data.TaskID
			var last relay.Reading
			for range callbacks {
				body := <-r.bodies
				reading, err := family.Read(body, nil, relay.ReadOptions{})
				if err != nil || reading.ID != id {
					t.Fatalf("%s: %+v, %v of %s", api, reading, err, body)
				}
				if reading.Stage != "text" && reading.Stage != "first" { // they overtake each other
					last = reading
				}
			}
			path, ok := family.(relay.DetailsReader).DetailsPath("api/v1/"+api, id)
			method, posted := "GET", family.(relay.DetailsPoster).DetailsBody("api/v1/"+api, id)
			if posted != nil {
				method = "POST"
			}
			status, body := ask(t, method, s.URL+"/"+path, string(posted))
			v := family.(relay.DetailsReader).Judge("api/v1/"+api, id, status, body)
			want := relay.VerdictSuccess
			if code != 0 {
				want = relay.VerdictFailed
			}
			if method == "POST" && code != 0 { // nothing tells that it failed
				continue
			}
			if !ok || v.Kind != want {
				t.Errorf("%s: %+v of %s", api, v, body)
				continue
			}
			got, err := family.Read(v.Body, nil, relay.ReadOptions{})
			slices.Sort(got.URLs)
			slices.Sort(last.URLs)
			if err != nil || got.ID != last.ID || got.Stage != last.Stage || !slices.Equal(got.URLs, last.URLs) || code == 0 && got.Code != "200" {
				t.Errorf("%s: %+v, not %+v, %v of %s", api, got, last, err, body)
			}
		}
	}
}

func TestFates(t *testing.T) {
	r := receive(t, func(n int) int { return []int{500, 302, 200, 200, 200}[n] })
	s := start(t, quick)
	if a := submit(t, s, "mp4/generate", r.url, `,"fate":{"refuse":451}`); a.Code != 451 || a.Data.TaskID != "" || len(s.Tasks()) != 0 {
		t.Errorf("refused: %+v", a)
	}
	id := submit(t, s, "mp4/generate", r.url, `,"fate":{"repeat":2,"asked":[429,455]}`).Data.TaskID
	bodies := [][]byte{<-r.bodies, <-r.bodies, <-r.bodies, <-r.bodies, <-r.bodies}
	if slices.ContainsFunc(bodies, func(b []byte) bool { return !bytes.Equal(b, bodies[0]) }) {
		t.Errorf("%s", bodies)
	}
	for _, want := range []int{429, 455, 200} {
		var a answer
		if _, body := ask(t, "GET", s.URL+"/api/v1/mp4/record-info?taskId="+id, ""); json.Unmarshal(body, &a) != nil || a.Code != want {
			t.Errorf("%s, not %d", body, want)
		}
	}
	if task := s.Tasks()[0]; task.ID != id || task.Asked != 3 || task.CallbackURL != r.url || !task.Done {
		t.Errorf("%+v", task)
	}
	// Nobody is called back, and the details have the result.
	id = submit(t, s, "wav/generate", r.url, `,"fate":{"never":true}`).Data.TaskID
	for !bytes.Contains(details(t, s, "wav", id), []byte(`"SUCCESS"`)) {
	}
	// Every callback fails.
	gone := httptest.NewServer(nil)
	gone.Close()
	id = submit(t, s, "vocal-removal/generate", gone.URL, "").Data.TaskID
	for !bytes.Contains(details(t, s, "vocal-removal", id), []byte(`CALLBACK_EXCEPTION`)) {
	}
	tasks := s.Tasks()
	if c := tasks[2].Callbacks; len(tasks[1].Callbacks) != 0 || len(c) != 1+len(fakeprovider.Retries) || strings.Contains(c[0].Error, gone.URL+"/") || c[0].Error == "" {
		t.Errorf("%+v", tasks)
	}
	if len(r.bodies) != 0 {
		t.Errorf("%d callbacks more", len(r.bodies))
	}
}

func details(t *testing.T, s *fakeprovider.Server, api, id string) []byte {
	t.Helper()
	_, body := ask(t, "GET", s.URL+"/api/v1/"+api+"/record-info?taskId="+id, "")
	return body
}

func TestKeyAndUnknownTasks(t *testing.T) {
	o := quick
	o.Key = "another"
	for _, path := range []string{"/api/v1/wav/record-info?taskId=x", "/api/v1/jobs/recordInfo?taskId=x"} {
		if _, body := ask(t, "GET", start(t, o).URL+path, ""); !bytes.Contains(body, []byte(`"code":401`)) {
			t.Errorf("%s", body)
		}
		if _, body := ask(t, "GET", start(t, quick).URL+path, ""); !bytes.Contains(body, []byte(`"data":null`)) || strings.Contains(path, "jobs") != bytes.Contains(body, []byte(`422`)) {
			t.Errorf("%s", body)
		}
	}
}

// TestSeed holds that two runs with one seed are alike, and those with two are not.
func TestSeed(t *testing.T) {
	odds := fakeprovider.Odds{Never: .3, Twice: .2, Late: .1, Fail: .05, LateBy: time.Second}
	ids := make(map[string]int)
	for _, seed := range []uint64{1, 1, 2} {
		o := quick
		o.Seed = seed
		s := start(t, o)
		submit(t, s, "wav/generate", "", "")
		ids[s.Tasks()[0].ID+s.Tasks()[0].Files[0].SHA256()]++
	}
	if len(ids) != 2 {
		t.Error(ids)
	}
	counts := make(map[string]int)
	for n := range uint64(1000) {
		fate := odds.Fates(1)(n)
		counts[fmt.Sprintf("%+v", fate)]++
		if again := odds.Fates(1)(n); fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", fate) {
			t.Fatal(again, fate)
		}
	}
	if len(counts) != 5 || counts[fmt.Sprintf("%+v", fakeprovider.Fate{Never: true})] < 250 {
		t.Error(counts)
	}
}
