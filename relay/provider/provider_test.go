package provider_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/payload"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func TestCustomFiles(t *testing.T) {
	body := []byte(`{"id":"t","one":"https://a","none":null,"empty":"","n":7,"list":["https://b",null,"key/c","",["https://d"]],
		"items":[{"url":"https://e","thumbUrl":"http://f","curl":"-o","note":"https://g","urls":["https://h"]},{"url":"ftp://i"}]}`)
	for path, want := range map[string][]string{
		"one":                      {"https://a"},
		"none":                     nil,
		"absent":                   nil,
		"empty":                    nil,
		"n":                        nil,
		"list":                     {"https://b", "key/c", "https://d"},
		"list.0":                   {"https://b"},
		"items":                    {"https://e", "http://f"},
		"items.#.url":              {"https://e", "ftp://i"},
		`items.#(curl=="-o").urls`: {"https://h"},
	} {
		p, err := provider.Custom(provider.Paths{TaskID: []string{"id"}, Files: []string{path}})
		if err != nil {
			t.Error(err)
			continue
		}
		task, err := p.Identify(body)
		if err != nil || !slices.Equal(task.Files, want) {
			t.Errorf("%s: %q, %v, not %q", path, task.Files, err, want)
		}
	}
}

func TestCustomTaskID(t *testing.T) {
	p, err := provider.Custom(provider.Paths{TaskID: []string{"run.id", "id"}, Stage: []string{"stage", "step"}, Code: []string{"ok"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"run.id", "id", "stage", "step", "ok"}; !slices.Equal(p.Paths(), want) {
		t.Errorf("paths %q", p.Paths())
	}
	for body, want := range map[string]relay.Task{
		`{"id":"a","step":3,"ok":true}`:               {ID: "a", Stage: "3", Code: "true"},
		`{"run":{"id":12345678901234567},"stage":""}`: {ID: "12345678901234567"},
		`{"run":{"id":5},"id":"5"}`:                   {ID: "5"},
	} {
		got, err := p.Identify([]byte(body))
		if err != nil || got.ID != want.ID || got.Stage != want.Stage || got.Code != want.Code {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	for _, body := range []string{`{}`, `{"id":true}`, `{"id":{}}`, `{"id":""}`, `{"run":{"id":5},"id":6}`, `{"id":"a","ok":[]}`} {
		if _, err := p.Identify([]byte(body)); err == nil {
			t.Errorf("%s: no error", body)
		}
	}
}

func TestCustomRefusesPaths(t *testing.T) {
	for _, p := range []provider.Paths{
		{},
		{Code: []string{"code"}},
		{TaskID: []string{""}},
		{TaskID: []string{"id"}, Files: []string{"@tostr|@tostr"}},
		{TaskID: []string{"id"}, Stage: []string{"a..b"}},
		{TaskID: []string{"id"}, Code: []string{"{a,b}"}},
	} {
		if _, err := provider.Custom(p); err == nil {
			t.Errorf("%v: no error", p)
		}
	}
}

// FuzzCustom runs any path that may be configured over any body that CheckBody passes.
func FuzzCustom(f *testing.F) {
	names, _ := filepath.Glob("../testdata/*.json")
	for _, name := range names {
		body, _ := os.ReadFile(name)
		f.Add("data.task_id", "data.data.#.audio_url", body)
	}
	f.Add(`a\.b.#(c.d=="e")#.f`, "w?l*", []byte(`{"a.b":[{"c":{"d":"e"},"f":"x"}],"will":["https://a"]}`))
	f.Fuzz(func(t *testing.T, id, files string, body []byte) {
		p, err := provider.Custom(provider.Paths{TaskID: []string{id}, Stage: []string{id}, Code: []string{files}, Files: []string{files}})
		if err != nil || payload.CheckBody(body, p.Paths()) != nil {
			return
		}
		task, err := p.Identify(body)
		if err != nil {
			return
		}
		// gjson writes lone surrogates and a list of matches longer than they came, but never by much.
		if total := len(strings.Join(task.Files, "")); total > 4*len(body)+64 {
			t.Fatalf("%d bytes of files from a body of %d", total, len(body))
		}
	})
}
