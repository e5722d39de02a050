package intake_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/engine/intake"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func fixture(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func custom(tb testing.TB, p provider.Paths) relay.Provider {
	tb.Helper()
	c, err := provider.Custom(p)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// everyProvider are the built-in ones and custom ones that use all that a path may hold.
func everyProvider(tb testing.TB) map[string]relay.Provider {
	tb.Helper()
	return map[string]relay.Provider{
		"suno":   provider.Suno(),
		"kie":    provider.Kie(),
		"plain":  custom(tb, provider.Paths{TaskID: []string{"data.task_id"}, Stage: []string{"data.callbackType"}, Code: []string{"code"}, Files: []string{"data.data.#.audio_url"}}),
		"index":  custom(tb, provider.Paths{TaskID: []string{"data.0.id", "id"}, Files: []string{"data.#(id==\"a\").url", "da*"}}),
		"quoted": custom(tb, provider.Paths{TaskID: []string{`a\.b.c`}, Code: []string{"#.code"}}),
	}
}

// sum is the hash that the store's documentation promises, made by encoding/json.
func sum(values ...string) [32]byte {
	b, _ := json.Marshal(values)
	return sha256.Sum256(b)
}

func TestIdentifyFixtures(t *testing.T) {
	const tempfile = "https://tempfile.aiquickdraw.com/v/94322944-2c96-4be3-b7fb-606e3924a8d2_"
	music := []string{"https://cdn1.suno.ai/e2310000-0000-0000-0000-00008cadc7dc.mp3", "https://cdn1.suno.ai/e2310000.jpeg"}
	for name, want := range map[string]relay.Task{
		"callback-failure-451.json": {ID: "9f1c0f0e6a4d4f2f8f6b3f0f5a1d2c3b", Code: "451"},
		"callback-separate-vocal.json": {ID: "5e72d367bdfbe44785e28d72cb1697c7", Code: "200", Files: []string{
			tempfile + "instrumental.mp3", "https://cdn1.suno.ai/549fc4b2-294f-44ea-a35b-419687b07ab9.mp3", tempfile + "vocal.mp3",
		}},
		"callback-kie-separate-vocal.json": {ID: "3e63b4cc88d52611159371f6af5571e7", Code: "200", Files: []string{
			"https://file.aiquickdraw.com/s/d92a13bf-c6f4-4ade-bb47-f69738435528_Instrumental.mp3",
			"https://file.aiquickdraw.com/s/3d7021c9-fa8b-4eda-91d1-3b9297ddb172_Vocals.mp3",
		}},
		"callback-split-stem.json": {ID: "e649edb7abfd759285bd41a47a634b10", Code: "200", Files: []string{
			"https://file.aiquickdraw.com/s/07420749-29a2-4054-9b62-e6a6f8b90ccb_Vocals.mp3",
			"https://file.aiquickdraw.com/s/aadc51a3-4c88-4c8e-a4c8-e867c539673d_Backing_Vocals.mp3",
			"https://file.aiquickdraw.com/s/a3c2da5a-b364-4422-adb5-2692b9c26d33_Bass.mp3",
			"https://file.aiquickdraw.com/s/334b2d23-0c65-4a04-92c7-22f828afdd44_Brass.mp3",
			"https://file.aiquickdraw.com/s/ac75c5ea-ac77-4ad2-b7d9-66e140b78e44_Drums.mp3",
			"https://file.aiquickdraw.com/s/a8822c73-6629-4089-8f2a-d19f41f0007d_FX.mp3",
		}},
		"callback-music-text.json":     {ID: "2fac0000000000000000000000009f72", Stage: "text", Code: "200", Files: music},
		"callback-music-first.json":    {ID: "2fac0000000000000000000000009f72", Stage: "first", Code: "200", Files: music},
		"callback-music-complete.json": {ID: "2fac0000000000000000000000009f72", Stage: "complete", Code: "200", Files: music},
	} {
		for _, p := range []relay.Provider{provider.Suno(), provider.Kie()} {
			got, err := intake.Identify(&relay.Source{Provider: p}, fixture(t, name), nil)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if want.FilesTotal = len(want.Files); fmt.Sprint(got.Task) != fmt.Sprint(want) {
				t.Errorf("%s:\n got %v\nwant %v", name, got.Task, want)
			}
			if got.Key != sum(want.ID, want.Stage, want.Code) {
				t.Errorf("%s: the key is not the hash of task, stage and code", name)
			}
		}
	}
}

// identify uses suno, and the dedupe fields given.
func identify(body string, header http.Header, fields ...relay.DedupeField) (intake.Identity, error) {
	return intake.Identify(&relay.Source{Provider: provider.Suno(), Dedupe: fields}, []byte(body), header)
}

func TestDedupeKey(t *testing.T) {
	path := func(p string) relay.DedupeField { return relay.DedupeField{Kind: relay.DedupePath, Name: p} }
	header := relay.DedupeField{Kind: relay.DedupeHeader, Name: "webhook-id"}
	task := relay.DedupeField{Kind: relay.DedupeTaskID}
	stage := relay.DedupeField{Kind: relay.DedupeStage}
	code := relay.DedupeField{Kind: relay.DedupeCode}
	for _, c := range []struct {
		name, body string
		header     http.Header
		fields     []relay.DedupeField
		want       []string // nil: an error
	}{
		{"absent code and stage", `{"data":{"taskId":"t"}}`, nil, nil, []string{"t", "", ""}},
		{"null code", `{"code":null,"data":{"task_id":"t"}}`, nil, nil, []string{"t", "", ""}},
		{"code as text", `{"code":"200","data":{"task_id":"t"}}`, nil, nil, []string{"t", "", "200"}},
		{"code with a fraction", `{"code":200.0,"data":{"task_id":"t"}}`, nil, nil, []string{"t", "", "200"}},
		{"code with an exponent", `{"code":2e2,"data":{"task_id":"t"}}`, nil, nil, []string{"t", "", "200"}},
		{"code beyond float64", `{"code":9007199254740993,"data":{"task_id":"t"}}`, nil, nil, []string{"t", "", "9007199254740993"}},
		{"own order", `{"code":1,"data":{"task_id":"t","callbackType":"s"}}`, nil, []relay.DedupeField{code, task, stage}, []string{"1", "t", "s"}},
		{"path", `{"n":7.0,"data":{"task_id":"t"}}`, nil, []relay.DedupeField{path("n")}, []string{"7"}},
		{"path to an object", `{"o":{ "a" : [1, 2] },"data":{"task_id":"t"}}`, nil, []relay.DedupeField{path("o")}, []string{`{"a":[1,2]}`}},
		{"path through #", `{"data":{"task_id":"t","data":[{"id":"a"},{"id":"b"}]}}`, nil, []relay.DedupeField{path("data.data.#.id")}, []string{`["a","b"]`}},
		{"path to an empty string", `{"n":"","data":{"task_id":"t"}}`, nil, []relay.DedupeField{path("n")}, []string{""}},
		{"path missing", `{"data":{"task_id":"t"}}`, nil, []relay.DedupeField{path("n")}, nil},
		{"path null", `{"n":null,"data":{"task_id":"t"}}`, nil, []relay.DedupeField{path("n")}, nil},
		{"path repeated", `{"n":1,"n":2,"data":{"task_id":"t"}}`, nil, []relay.DedupeField{path("n")}, nil},
		{"header", `{"data":{"task_id":"t"}}`, http.Header{"Webhook-Id": {"i"}}, []relay.DedupeField{header}, []string{"i"}},
		{"header twice", `{"data":{"task_id":"t"}}`, http.Header{"Webhook-Id": {"i", "j"}}, []relay.DedupeField{header}, []string{"i, j"}},
		{"header missing", `{"data":{"task_id":"t"}}`, nil, []relay.DedupeField{header}, nil},
		{"what HTML and JSON escape", `{"n":"<\"\\\u2028é","data":{"task_id":"t"}}`, nil, []relay.DedupeField{path("n")}, []string{"<\"\\\u2028é"}},
	} {
		got, err := identify(c.body, c.header, c.fields...)
		switch {
		case c.want == nil && err == nil:
			t.Errorf("%s: no error", c.name)
		case c.want != nil && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != nil && got.Key != sum(c.want...):
			t.Errorf("%s: not the hash of %q", c.name, c.want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	const task = `"task_id":"t","vocal_removal_info"`
	base, err := identify(`{"code":200,"data":{`+task+`:{"a_url":"https://a/?x=1&y","b_url":"http://b"}}}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if base.Fingerprint != sum("200", "", "http://b", "https://a/?x=1&y") {
		t.Error("the fingerprint is not the hash of code, stage and sorted files")
	}
	for body, same := range map[string]bool{
		`{"msg":"m","code":"200","data":{` + task + `:{"b_url":"http://b","a_url":"https://a/?x=1&y","n":""}}}`: true,
		`{"code":451,"data":{` + task + `:{"a_url":"https://a/?x=1&y","b_url":"http://b"}}}`:                    false,
		`{"code":200,"data":{"callbackType":"s",` + task + `:{"a_url":"https://a/?x=1&y","b_url":"http://b"}}}`: false,
		`{"code":200,"data":{` + task + `:{"a_url":"https://a/?x=1&y"}}}`:                                       false,
		`{"code":200,"data":{` + task + `:null}}`:                                                               false,
	} {
		other, err := identify(body, nil)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if same != (other.Fingerprint == base.Fingerprint) {
			t.Errorf("%s: same fingerprint: %v", body, !same)
		}
	}
}

func TestFilesAreBoundedAndAllInTheFingerprint(t *testing.T) {
	many := func(n int) string {
		var urls []string
		for i := range n {
			urls = append(urls, fmt.Sprintf(`{"audio_url":"https://a/%d"}`, i))
		}
		return `{"data":{"task_id":"t","data":[` + strings.Join(urls, ",") + `]}}`
	}
	one, err := identify(many(1000), nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := identify(many(1001), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(one.Files) != intake.MaxFiles || one.FilesTotal != 1000 || one.Files[0] != "https://a/0" {
		t.Errorf("%d files of %d, the first %s", len(one.Files), one.FilesTotal, one.Files[0])
	}
	if one.Fingerprint == other.Fingerprint {
		t.Error("the last file is not in the fingerprint")
	}
	last := many(12_000)
	one, err = identify(last, nil)
	if err != nil || len(one.Files) != intake.MaxFiles || one.FilesTotal != 12_000 {
		t.Fatalf("%d files of %d, %v", len(one.Files), one.FilesTotal, err)
	}
	if other, err = identify(strings.Replace(last, "/11999", "/other", 1), nil); err != nil || one.Fingerprint == other.Fingerprint {
		t.Errorf("the last file of very many is not in the fingerprint, %v", err)
	}
}

func TestIdentifyRefuses(t *testing.T) {
	long := strings.Repeat("x", 129)
	for body, want := range map[string]string{
		`{}`:                                                     "no task id at data.task_id or data.taskId",
		`{"data":null}`:                                          "no task id",
		`{"data":[{"task_id":"t"}]}`:                             "no task id",
		`{"data":{"task_id":null}}`:                              "no task id",
		`{"data":{"task_id":7}}`:                                 "not a string",
		`{"data":{"task_id":["t"]}}`:                             "not a string",
		`{"data":{"task_id":""}}`:                                "no task id",
		`{"data":{"task_id":"a b"}}`:                             "of the characters",
		`{"data":{"task_id":"a/b"}}`:                             "of the characters",
		`{"data":{"task_id":"ä"}}`:                               "of the characters",
		`{"data":{"task_id":"` + long + `"}}`:                    "of the characters",
		`{"data":{"task_id":"a","taskId":"b"}}`:                  "two tasks",
		`{"data":{"task_id":"a","task_id":"b"}}`:                 "is repeated",
		`{"data":{"task_id":"a","t\u0061sk_id":"b"}}`:            "is repeated",
		`{"data":{"task_id":"a"},"data":{}}`:                     "is repeated",
		`{"code":{},"data":{"task_id":"a"}}`:                     "object or array",
		`{"code":"` + long + `","data":{"task_id":"a"}}`:         "code is longer",
		`{"data":{"task_id":"a","callbackType":"` + long + `"}}`: "stage is longer",
		`[]`: "not a JSON object",
	} {
		_, err := identify(body, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", body, err, want)
		}
	}
	for _, id := range []string{"a", strings.Repeat("x", 128), "A-Za.z0_9:"} {
		if _, err := identify(`{"data":{"task_id":"`+id+`","taskId":"`+id+`"}}`, nil); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// A sender must not be able to show the gateway one task and a consumer that reads with encoding/json another.
func FuzzIdentify(f *testing.F) {
	names, _ := filepath.Glob("../../testdata/*.json")
	for _, name := range names {
		b, _ := os.ReadFile(name)
		f.Add(b)
	}
	f.Add([]byte(`{"data":[{"id":5}],"a.b":{"c":"x"}}`))
	f.Add([]byte(`{"data":{"task_id":"a","task\u005fid":"b"}}`))
	f.Add([]byte(strings.Repeat(`{"data":[`, 100)))
	providers := everyProvider(f)
	fields := append([]relay.DedupeField{{Kind: relay.DedupePath, Name: "data"}}, relay.DefaultDedupe...)
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, p := range providers {
			id, err := intake.Identify(&relay.Source{Provider: p, Dedupe: fields}, body, nil)
			if err != nil {
				continue
			}
			if len(id.Files) > intake.MaxFiles || len(id.ID) > 128 {
				t.Fatalf("%s: unbounded: %v", name, id.Task)
			}
			if name != "plain" {
				continue
			}
			var seen map[string]any
			if err := json.Unmarshal(body, &seen); err != nil {
				t.Fatal(err)
			}
			if want := seen["data"].(map[string]any)["task_id"]; want != id.ID && want != json.Number(id.ID) {
				if n, ok := want.(float64); !ok || fmt.Sprint(int64(n)) != id.ID {
					t.Fatalf("gjson reads %q, encoding/json %v", id.ID, want)
				}
			}
		}
	})
}

// Only a verified sender learns how its callback is malformed, and a signature may cover the task's id.
func TestIdentifyGivesTheTaskOfWhatItRefuses(t *testing.T) {
	path := relay.DedupeField{Kind: relay.DedupePath, Name: "data.batch"}
	for body, fields := range map[string][]relay.DedupeField{
		`{"code":200,"code":500,"data":{"task_id":"t"}}`:     nil,
		`{"code":{},"data":{"task_id":"t"}}`:                 nil,
		`{"code":200,"data":{"task_id":"t"}}`:                {path},
		`{"data":{"task_id":"t","callbackType":["x"]}}`:      nil,
		`{"data":{"task_id":"t","task_id":"other"},"msg":1}`: nil,
	} {
		if id, err := identify(body, nil, fields...); err == nil || id.ID != "t" || id.Key != [32]byte{} {
			t.Errorf("%s: %+v, %v", body, id, err)
		}
	}
	if id, err := identify(`{"data":{"task_id":"t"}`, nil); err == nil || id.ID != "" {
		t.Errorf("of what is no JSON: %+v, %v", id, err)
	}
}
