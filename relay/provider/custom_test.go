package provider_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func custom(tb testing.TB, paths provider.Paths) relay.Provider {
	tb.Helper()
	p, err := provider.Custom(paths)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestCustomFiles(t *testing.T) {
	body := []byte(`{"id":"t","one":"https://a","none":null,"empty":"","n":7,"list":["https://b",null,"a text","",["https://d"]],
		"items":[{"url":"https://e","thumbUrl":"http://f","curl":"-o","note":"https://g","urls":["https://h"]},{"url":"ftp://i"}],
		"text":"{\"list\":[{\"k\":1,\"url\":\"https://j\"}]}"}`)
	for path, want := range map[string][]string{
		"one":                      {"https://a"},
		"none":                     nil,
		"absent":                   nil,
		"empty":                    nil,
		"n":                        nil,
		"list":                     {"https://b", "https://d"},
		"list.0":                   {"https://b"},
		"list.#":                   nil,
		"items":                    {"https://e", "http://f"},
		"items.#.url":              {"https://e"},
		"it*.0":                    {"https://e", "http://f"},
		`items.#(curl=="-o").urls`: {"https://h"},
		"text":                     {"https://j"}, // the object's list is not looked into, but json_text is
		"text.list":                {"https://j"},
		"text.list.#(k==1).url":    {"https://j"},
	} {
		if path == "text" {
			want = nil
		}
		got, err := custom(t, provider.Paths{TaskID: []string{"id"}, Files: []string{path}, JSONText: []string{"text"}}).Read(body, nil, relay.ReadOptions{})
		if err != nil || !slices.Equal(got.Files, want) {
			t.Errorf("%s: %q, %v, not %q", path, got.Files, err, want)
		}
	}
}

func TestCustomFilesUnder(t *testing.T) {
	for output, want := range map[string][]string{
		`"https://a"`:                       {"https://a"},
		`"https://a is a page"`:             nil,
		`["https://a",["HTTP://b"],"text"]`: {"https://a", "HTTP://b"},
		`["https://a and b"]`:               nil,
		`{"vocals":"https://v","meta":{"x":[{"file":"https://f","size":1}]},"url":"https://u/a b"}`: {"https://v", "https://f", "https://u/a b"},
		`"{\"deep\":{\"mp3\":\"https://m\"}}"`:                                                      {"https://m"},
		`null`:                                                                                      nil,
	} {
		p := custom(t, provider.Paths{TaskID: []string{"id"}, FilesUnder: []string{"output", "lo*s"}, JSONText: []string{"output"}})
		got, err := p.Read([]byte(`{"id":"t","logs":{"x":["https://log"]},"input":"https://i","output":`+output+`}`), nil, relay.ReadOptions{})
		if want = append(want, "https://log"); err != nil || !slices.Equal(got.Files, want) {
			t.Errorf("%s: %q, %v, not %q", output, got.Files, err, want)
		}
	}
}

func TestCustomTask(t *testing.T) {
	p := custom(t, provider.Paths{TaskID: []string{"run.id", "id"}, Stage: []string{"stage", "step"}, Code: []string{"ok", "x.*"}})
	for body, want := range map[string]relay.Task{
		`{"id":"a","step":3,"ok":true}`:               {ID: "a", Stage: "3", Code: "true"},
		`{"run":{"id":12345678901234567},"stage":""}`: {ID: "12345678901234567"},
		`{"run":{"id":5},"id":"5","x":{"y":1.0}}`:     {ID: "5", Code: "1"},
	} {
		got, err := p.Read([]byte(body), nil, relay.ReadOptions{})
		if err != nil || got.ID != want.ID || got.Stage != want.Stage || got.Code != want.Code {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	for _, body := range []string{`{}`, `{"id":true}`, `{"id":{}}`, `{"id":""}`, `{"run":{"id":5},"id":6}`, `{"id":"a","ok":[]}`} {
		if _, err := p.Read([]byte(body), nil, relay.ReadOptions{}); err == nil {
			t.Errorf("%s: no error", body)
		}
	}
}

func TestCustomTaskFromHeader(t *testing.T) {
	p := custom(t, provider.Paths{TaskID: []string{"header:x-delivery"}, Stage: []string{"action"}})
	for _, c := range []struct {
		values []string
		want   string
	}{
		{[]string{"d-1"}, "d-1"},
		{[]string{"d-1", "d-1"}, "d-1"},
		{[]string{"d-1", "d-2"}, "!two tasks"},
		{[]string{""}, "!missing"},
		{nil, "!missing"},
	} {
		got, err := p.Read([]byte(`{"action":"opened"}`), http.Header{"X-Delivery": c.values}, relay.ReadOptions{})
		if message, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%q: %v, not %q", c.values, err, message)
			}
		} else if err != nil || got.ID != c.want || got.Stage != "opened" {
			t.Errorf("%q: %+v, %v", c.values, got, err)
		}
	}
}

func TestReadForm(t *testing.T) {
	p := custom(t, provider.Paths{TaskID: []string{"id"}, Stage: []string{"state"}, Files: []string{"url"}})
	form := relay.ReadOptions{Format: payload.Form, Paths: []string{"n"}}
	got, err := p.Read([]byte("id=7&state=done&url=https%3A%2F%2Fa%2Fb%20c&n=1&x=1&x=2"), nil, form)
	if err != nil || got.ID != "7" || got.Stage != "done" || !slices.Equal(got.Files, []string{"https://a/b c"}) || !slices.Equal(got.Values, []string{"1"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for body, want := range map[string]string{"id=1&n=2&id=3": "is repeated", "id=1": "nothing at n", "n=%": "not a form"} {
		if _, err := p.Read([]byte(body), nil, form); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", body, err, want)
		}
	}
}

func TestReadAny(t *testing.T) {
	byHeader := custom(t, provider.Paths{TaskID: []string{"header:X-Id"}, Stage: []string{"0.state", "state"}, FilesUnder: []string{"0"}})
	byPath := custom(t, provider.Paths{TaskID: []string{"id"}, Stage: []string{"state"}})
	header := http.Header{"X-Id": {"h"}}
	const sum = ""
	for _, c := range []struct {
		p         relay.Provider
		body      string
		header    http.Header
		id, stage string
	}{
		{byHeader, `[{"state":"s","x":"https://f"}]`, header, "h", "s"},
		{byHeader, "\xff\xfe\x00", header, "h", ""},
		{byHeader, ``, header, "h", ""},
		{byHeader, `{"state":{}}`, header, "h", ""},
		{byHeader, `{"state":"a","state":"b"}`, header, "h", ""},
		{byHeader, `not JSON`, nil, sum, ""},
		{byPath, `{"id":"i","state":"s"}`, header, "i", "s"},
		{byPath, `{"id":["i"],"state":"s"}`, nil, sum, "s"},
		{byPath, `[1]`, nil, sum, ""},
		{provider.Suno(), `[1]`, nil, sum, ""},
	} {
		if c.id == sum {
			of := sha256.Sum256([]byte(c.body))
			c.id = hex.EncodeToString(of[:])
		}
		got, err := c.p.Read([]byte(c.body), c.header, relay.ReadOptions{Format: payload.Any})
		if err != nil || got.ID != c.id || got.Stage != c.stage {
			t.Errorf("%q: %+v, %v", c.body, got, err)
		}
	}
	if _, err := byPath.Read([]byte(`[]`), nil, relay.ReadOptions{Format: payload.Any, Paths: []string{"n"}}); err == nil {
		t.Error("a value that the source wants is missing, and there is no error")
	}
}

// One provider may serve sources that want different paths.
func TestReadPaths(t *testing.T) {
	p := provider.Suno()
	body := []byte(`{"data":{"task_id":"t","n":[1, 2]},"a":{"b":{"c":"d"}},"x":1,"x":2}`)
	for _, c := range []struct{ paths, want []string }{
		{nil, nil},
		{[]string{"data.n", "a.b.c"}, []string{"[1,2]", "d"}},
		{[]string{"data.task_id", "a.*.c"}, []string{"t", "d"}},
		{[]string{"x"}, nil},
		{[]string{"y"}, nil},
	} {
		got, err := p.Read(body, nil, relay.ReadOptions{Paths: c.paths})
		if (err == nil) != (c.want != nil || c.paths == nil) || got.ID != "t" || err == nil && !slices.Equal(got.Values, c.want) {
			t.Errorf("%q: %q, %v", c.paths, got.Values, err)
		}
	}
}

// TestCustomWithoutID has the hash of any body for its id, and of no other.
func TestCustomWithoutID(t *testing.T) {
	p := custom(t, provider.Paths{Stage: []string{"state"}})
	const body = `{"id":"7","state":"done"}`
	sum := sha256.Sum256([]byte(body))
	got, err := p.Read([]byte(body), nil, relay.ReadOptions{Format: payload.Any})
	if err != nil || got.ID != hex.EncodeToString(sum[:]) || got.Stage != "done" {
		t.Errorf("any: %+v, %v, not %x", got.Task, err, sum)
	}
	for _, format := range []payload.Format{payload.JSON, payload.Form} {
		if got, err := p.Read([]byte(body), nil, relay.ReadOptions{Format: format}); err == nil {
			t.Errorf("%s: %+v", format, got.Task)
		}
	}
	first, _ := p.Sample("a", false, relay.ReadOptions{Format: payload.Any})
	second, _ := p.Sample("b", false, relay.ReadOptions{Format: payload.Any})
	if bytes.Equal(first, second) {
		t.Errorf("two samples are one callback: %s", first)
	}
}

func TestCustomRefusesPaths(t *testing.T) {
	for _, p := range []provider.Paths{
		{Code: []string{""}},
		{TaskID: []string{""}},
		{TaskID: []string{"header:"}},
		{TaskID: []string{"header:a b"}},
		{TaskID: []string{"header:a", "id"}},
		{TaskID: []string{"id", "header:a"}},
		{TaskID: []string{"id"}, Stage: []string{"header:a"}},
		{TaskID: []string{"id"}, Files: []string{"@tostr|@tostr"}},
		{TaskID: []string{"id"}, FilesUnder: []string{"@this"}},
		{TaskID: []string{"id"}, Stage: []string{"a..b"}},
		{TaskID: []string{"id"}, Code: []string{"{a,b}"}},
		{TaskID: []string{"id"}, JSONText: []string{"a.#.b"}},
		{TaskID: []string{"id"}, JSONText: []string{"a*"}},
	} {
		if _, err := provider.Custom(p); err == nil {
			t.Errorf("%v: no error", p)
		}
	}
}

// FuzzCustom reads any body by any paths that may be configured.
func FuzzCustom(f *testing.F) {
	names, _ := filepath.Glob("testdata/family/*.json")
	for _, name := range names {
		body, _ := os.ReadFile(name)
		f.Add("data.task_id", "data.data.#.audio_url", "data.resultJson", body)
	}
	f.Add(`a\.b.#(c.d=="e")#.f`, "w?l*", "t.0", []byte(`{"a.b":[{"c":{"d":"e"},"f":"x"}],"will":["https://a"],"t":["{\"id\":1}"]}`))
	f.Fuzz(func(t *testing.T, id, files, text string, body []byte) {
		p, err := provider.Custom(provider.Paths{TaskID: []string{id}, Stage: []string{text}, Files: []string{files}, FilesUnder: []string{id}, JSONText: []string{text}})
		if err != nil {
			return
		}
		for _, format := range []payload.Format{payload.JSON, payload.Form, payload.Any} {
			got, err := p.Read(body, nil, relay.ReadOptions{Format: format, Paths: []string{id}})
			if err == nil && got.ID == "" {
				t.Fatal("neither a task nor an error")
			}
			// gjson writes lone surrogates and a list of matches longer than they came, but never by much.
			if total := len(strings.Join(got.Files, "")); total > 8*len(body)+64 {
				t.Fatalf("%d bytes of files from a body of %d", total, len(body))
			}
		}
	})
}
