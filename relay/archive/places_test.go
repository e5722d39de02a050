package archive_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
	"github.com/callbackrelay/caddy-relay/relay/payload"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// rewriting returns an archive that is asked for bodies alone.
func rewriting(p relay.Provider, format payload.Format) *archive.Archive {
	return archive.New(archive.Options{Storage: memory{}, Provider: p, Reading: relay.ReadOptions{Format: format}, URLPrefix: "https://x.example"})
}

// Every file that the provider reads in any callback of the family is found where it stands, and replaced there alone.
func TestFamily(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("..", "provider", "testdata", "family", "*.json"))
	if err != nil || len(names) < 40 {
		t.Fatal(len(names), err)
	}
	all := 0
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p := provider.Suno()
		want, err := p.Read(body, nil, relay.ReadOptions{})
		if err != nil {
			continue // the manifest
		}
		ev := &relay.Event{Body: body}
		fields := archive.Fields(rewriting(p, payload.JSON), ev)
		if len(fields) != len(want.Files) {
			t.Fatalf("%s: %v, not %q", name, fields, want.Files)
		}
		var files []relay.File
		for i, f := range fields {
			if f.URL != want.Files[i] {
				t.Errorf("%s: %s is %s, not %s", name, f.Field, f.URL, want.Files[i])
			}
			if got := gjson.GetBytes(body, f.Field); got.Exists() && got.Str != f.URL {
				t.Errorf("%s: at %s is %q", name, f.Field, got.Str)
			}
			f.Object = fmt.Sprintf("f/%d.mp3", i)
			files = append(files, f)
		}
		all += len(files)
		rewritten := rewriting(p, payload.JSON).Rewrite(ev, files)
		got, err := p.Read(rewritten, nil, relay.ReadOptions{})
		if err != nil || len(got.Files) != len(files) {
			t.Fatalf("%s: %v %q", name, err, got.Files)
		}
		for i, url := range got.Files {
			if url != fmt.Sprintf("https://x.example/f/%d.mp3", i) {
				t.Errorf("%s: file %d is %s", name, i, url)
			}
		}
		// Back again, byte for byte.
		for i, f := range files {
			rewritten = bytes.Replace(rewritten, fmt.Appendf(nil, "https://x.example/f/%d.mp3", i), []byte(f.URL), 1)
		}
		if !bytes.Equal(rewritten, body) {
			t.Errorf("%s: something else was rewritten", name)
		}
	}
	if all < 60 {
		t.Errorf("%d files", all)
	}
}

func TestRewrite(t *testing.T) {
	custom, err := provider.Custom(provider.Paths{TaskID: []string{"id"}, FilesUnder: []string{"out"}, JSONText: []string{"text"}, Files: []string{"text.a", "text.b"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		provider relay.Provider
		format   payload.Format
		body     string
		fields   []string
		want     string // X for a URL in the archive
	}{
		"plain": {
			custom, payload.JSON, `{"id":"1", "out" : {"a" : "https://h/a.mp3" , "b":["http://h/b"]}, "note":"see https://h/a.mp3"}`,
			[]string{"out.a", "out.b.0"},
			`{"id":"1", "out" : {"a" : "X" , "b":["X"]}, "note":"see https://h/a.mp3"}`,
		},
		"escapes": {
			custom, payload.JSON, `{"id":"1\u00e9\/","out":["https:\/\/h\/a.mp3?x=1\u0026y=\u00fc","\u0068ttps://h/\ud83d\ude00.mp3"]}`,
			[]string{"out.0", "out.1"},
			`{"id":"1\u00e9\/","out":["X","X"]}`,
		},
		"spaces": {
			provider.Suno(), payload.JSON, `{"data":{"task_id":"1","vocal_removal_info":{"vocal_url":"https://h/a b (1).mp3"}}}`,
			[]string{"data.vocal_removal_info.vocal_url"},
			`{"data":{"task_id":"1","vocal_removal_info":{"vocal_url":"X"}}}`,
		},
		"empty": {
			provider.Suno(), payload.JSON, `{"data":{"task_id":"1","vocal_removal_info":{"origin_url":"","vocal_url":"https://h/a"}}}`,
			[]string{"data.vocal_removal_info.vocal_url"},
			`{"data":{"task_id":"1","vocal_removal_info":{"origin_url":"","vocal_url":"X"}}}`,
		},
		"in a text": {
			provider.Suno(), payload.JSON,
			`{"data":{"taskId":"1","resultJson":"{\"x\":\"\\u00fc\ud83d\ude00\\\"\",\"resultUrls\":[\"https:\\/\\/h\\/1\\u00262.png\",\"https://h/2\"]}"}}`,
			[]string{"data.resultJson.resultUrls.0", "data.resultJson.resultUrls.1"},
			`{"data":{"taskId":"1","resultJson":"{\"x\":\"\\u00fc\ud83d\ude00\\\"\",\"resultUrls\":[\"X\",\"X\"]}"}}`,
		},
		"escaped twice in a text": {
			provider.Suno(), payload.JSON,
			`{"data":{"taskId":"1","resultJson":" {\"\\u00fc\\ud83d\\ude00\\ud83d\":\"\ud83d\",\"resultUrls\":[\"https:\\u002f\\u002fh\\u002f1\"]}"}}`,
			[]string{"data.resultJson.resultUrls.0"},
			`{"data":{"taskId":"1","resultJson":" {\"\\u00fc\\ud83d\\ude00\\ud83d\":\"\ud83d\",\"resultUrls\":[\"X\"]}"}}`,
		},
		"escaped in a text": {
			provider.Suno(), payload.JSON,
			`{"data":{"taskId":"1","resultJson":"\u007b\u0022resultUrls\u0022:[\u0022https:\/\/h\/1\u0022]}"}}`,
			[]string{"data.resultJson.resultUrls.0"},
			`{"data":{"taskId":"1","resultJson":"\u007b\u0022resultUrls\u0022:[\u0022X\u0022]}"}}`,
		},
		"repeated where it is no file": {
			provider.Suno(), payload.JSON,
			`{"data":{"taskId":"1","param":"{\"input\":{\"image_url\":\"https://h/1.png\"}}","a":"https://h/1.png","resultJson":"{\"resultUrls\":[\"https://h/1.png\"]}","b":"https://h/1.png"}}`,
			[]string{"data.resultJson.resultUrls.0"},
			`{"data":{"taskId":"1","param":"{\"input\":{\"image_url\":\"https://h/1.png\"}}","a":"https://h/1.png","resultJson":"{\"resultUrls\":[\"X\"]}","b":"https://h/1.png"}}`,
		},
		"twice": {custom, payload.JSON, `{"id":"1","out":{"a":"https://h/a","b":"https://h/a"}}`, []string{"out.a", "out.b"}, `{"id":"1","out":{"a":"X","b":"X"}}`},
		"odd keys": {
			custom, payload.JSON, `{"id":"1","out":{"a.b":{"*":"https://h/a"},"":"https://h/b","https://h/a":1}}`,
			[]string{`out.a\.b.\*`, `out.`},
			`{"id":"1","out":{"a.b":{"*":"X"},"":"X","https://h/a":1}}`,
		},
		"byte order mark": {custom, payload.JSON, "\xef\xbb\xbf" + `{"id":"1","out":"https://h/a"}`, []string{"out"}, "\xef\xbb\xbf" + `{"id":"1","out":"X"}`},
		"deep in a text": {
			custom, payload.JSON, deep(payload.MaxDepth, "https://h/a"),
			[]string{"out", "text.a" + strings.Repeat(".0", payload.MaxDepth-1)},
			deep(payload.MaxDepth, "X"),
		},
		"too deep in a text": {
			custom, payload.JSON, deep(payload.MaxDepth+1, "https://h/a"),
			[]string{"out"},
			strings.Replace(deep(payload.MaxDepth+1, "https://h/a"), "https://h/a", "X", 1),
		},
		"array":   {custom, payload.Any, `[]`, nil, `[]`},
		"no JSON": {custom, payload.Any, `https://h/a`, nil, `https://h/a`},
		"form": {
			custom, payload.Form, "id=1&out=https%3A%2F%2Fh%2Fa%2Bb&x=https%3A%2F%2Fh%2Fa%2Bb\r\n",
			[]string{"out"},
			"id=1&out=Y&x=https%3A%2F%2Fh%2Fa%2Bb\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := rewriting(c.provider, c.format)
			ev := &relay.Event{Body: []byte(c.body)}
			files := archive.Fields(a, ev)
			var fields []string
			for i := range files {
				fields = append(fields, files[i].Field)
				files[i].Object = "f"
			}
			if !slices.Equal(fields, c.fields) {
				t.Errorf("fields %q, not %q", fields, c.fields)
			}
			want := strings.NewReplacer("X", "https://x.example/f", "Y", "https%3A%2F%2Fx.example%2Ff").Replace(c.want)
			if got := string(a.Rewrite(ev, files)); got != want {
				t.Errorf("got %s\nnot %s", got, want)
			}
			if got := a.Rewrite(ev, nil); string(got) != c.body {
				t.Errorf("without a file: %s", got)
			}
		})
	}
}

// FuzzRewrite checks that a body stays a body of the same files, whatever it is.
func FuzzRewrite(f *testing.F) {
	names, _ := filepath.Glob(filepath.Join("..", "provider", "testdata", "family", "*.json"))
	for _, name := range names {
		if body, err := os.ReadFile(name); err == nil && len(body) < 10_000 {
			f.Add(body)
		}
	}
	p := provider.Kie()
	f.Fuzz(func(t *testing.T, body []byte) {
		a := rewriting(p, payload.JSON)
		ev := &relay.Event{Body: body}
		files := archive.Fields(a, ev)
		for i := range files {
			files[i].Object = fmt.Sprintf("f/%d", i)
		}
		rewritten := a.Rewrite(ev, files)
		before, err := p.Read(body, nil, relay.ReadOptions{})
		after, again := p.Read(rewritten, nil, relay.ReadOptions{})
		if (err == nil) != (again == nil) || before.FilesTotal != after.FilesTotal || json.Valid(body) != json.Valid(rewritten) {
			t.Errorf("%q became %q", body, rewritten)
		}
	})
}

// deep returns a body with a file, and with a text of so many levels that names it again.
func deep(levels int, url string) string {
	text := strings.Repeat("[", levels-1) + `\"` + url + `\"` + strings.Repeat("]", levels-1)
	return `{"id":"1","out":"` + url + `","text":"{\"a\":` + text + `}"}`
}
