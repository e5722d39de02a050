package payload_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

func plan(tb testing.TB, w payload.Wants) *payload.Plan {
	tb.Helper()
	p, err := payload.NewPlan(w)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestReadRefuses(t *testing.T) {
	paths := []string{"code", "data.task_id", "data.data", "list.1.id", "all.#.id", `a\.b`, "w*.x"}
	p := plan(t, payload.Wants{Values: paths})
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for body, want := range map[string]error{
		`{}`:                                 payload.ErrNotObject, // replaced below
		``:                                   payload.ErrNotObject,
		` `:                                  payload.ErrNotObject,
		`[]`:                                 payload.ErrNotObject,
		`"{}"`:                               payload.ErrNotObject,
		`null`:                               payload.ErrNotObject,
		`{} {}`:                              payload.ErrNotObject,
		`{"a":1,}`:                           payload.ErrNotObject,
		`{"a":[1,]}`:                         payload.ErrNotObject,
		`{"a":01}`:                           payload.ErrNotObject,
		`{"a":1.}`:                           payload.ErrNotObject,
		`{"a":.1}`:                           payload.ErrNotObject,
		`{"a":-}`:                            payload.ErrNotObject,
		`{"a":1e}`:                           payload.ErrNotObject,
		`{"a":+1}`:                           payload.ErrNotObject,
		`{"a":tru}`:                          payload.ErrNotObject,
		`{"a":nulll}`:                        payload.ErrNotObject,
		`{"a":"\x"}`:                         payload.ErrNotObject,
		`{"a":"\u12g4"}`:                     payload.ErrNotObject,
		`{"a":"\u12`:                         payload.ErrNotObject,
		"{\"a\":\"\n\"}":                     payload.ErrNotObject,
		`{"a"`:                               payload.ErrNotObject,
		`{"a":`:                              payload.ErrNotObject,
		`{"a":1`:                             payload.ErrNotObject,
		`{"a`:                                payload.ErrNotObject,
		`{a:1}`:                              payload.ErrNotObject,
		`{"a":1 "b":2}`:                      payload.ErrNotObject,
		"\xef\xbb\xbf{}":                     payload.ErrNotObject, // Document leaves the mark out
		"{\"a\":\"\xff\"}":                   payload.ErrInvalidUTF8,
		"{\"\xc3\x28\":1}":                   payload.ErrInvalidUTF8,
		"{\"a\":\"\xed\xa0\x80\"}":           payload.ErrInvalidUTF8, // a surrogate
		nested(65):                           payload.ErrTooDeep,
		`{"a":` + strings.Repeat("[", 64):    payload.ErrTooDeep,
		`{"a":` + strings.Repeat("[", 8<<20): payload.ErrTooDeep,

		`{"code":1,"code":1}`:                                          payload.ErrRepeatedKey,
		`{"code":1 , "c\u006fde":1}`:                                   payload.ErrRepeatedKey,
		`{"data":{"task_id":"a"},"data":1}`:                            payload.ErrRepeatedKey,
		`{"data":1,"data":{"task_id":"a"}}`:                            payload.ErrRepeatedKey,
		`{"data":{"x":{"task_id":1},"task_id":"a","task_id":"a"}}`:     payload.ErrRepeatedKey,
		`{"data":{"data":[],"task_id":"a","data":[]}}`:                 payload.ErrRepeatedKey,
		`{"list":[{"id":1},{"id":1,"id":2}]}`:                          payload.ErrRepeatedKey,
		`{"list":{"1":{"id":1,"id":2}}}`:                               payload.ErrRepeatedKey,
		`{"all":[{"id":1}, {"id":2},"]}",{"id":3,"x":[1,{}],"id":4}]}`: payload.ErrRepeatedKey,
		`{"a.b":1,"a\u002eb":2}`:                                       payload.ErrRepeatedKey,
	} {
		if body == `{}` {
			want = nil
		}
		var found payload.Found
		if err := p.Read([]byte(body), &found); !errors.Is(err, want) {
			t.Errorf("%.80q: %v, not %v", body, err, want)
		}
	}
	for _, body := range []string{
		" {\n\t\r} ",
		nested(64),
		`{"a":"` + strings.Repeat("[", 100) + `"}`,
		`{"a":"\"` + strings.Repeat("[", 100) + `"}`,
		`{"a":[-0,0.5e+10,1E-2,"\"\\\/\b\f\n\r\t\ud800ä€😀` + "\x7f" + `",true,false,null,[],{}]}`,
		`{"x":1,"x":2}`, // on no path
		`{"data":{"task_id":"a"},"x":[{"task_id":1}],"task_id":1}`,
		`{"data":{"data":[{"id":1,"id":2}]}}`,
		`{"list":[{"id":1,"id":2},{"id":1}]}`,
		`{"all":[{"id":1}, {"id":2}, 7 , []]}`,
		`{"w1":{"x":1,"x":2},"w1":1}`, // not plain
	} {
		var found payload.Found
		if err := p.Read([]byte(body), &found); err != nil {
			t.Errorf("%.80q: %v", body, err)
		}
	}
}

func TestReadValues(t *testing.T) {
	const body = `{"s":"a\u0062\/","n":2e2,"z":null,"f":false,"e":"","o":{ "k" : [1, 2], "0":"zero" },"a":["x",{"b":"y"},["z"]],
		"i":[{"id":1},{"id":2,"v":"w"},{}],"a.b":{"c*":7},"@t":1,"big":12345678901234567890,"neg":-1,"frac":1.50,
		"text":"{\"in\":{\"id\":\"t\"},\"list\":[{\"k\":1,\"v\":\"one\"}]}","bad":"{\"in\":","plain":"in"}`
	want := map[string]string{
		"s": "ab/", "n": "200", "z": "", "f": "false", "e": "", "o": `{"k":[1,2],"0":"zero"}`, "o.k": "[1,2]", "o.0": "zero", "o.k.1": "2",
		"a.0": "x", "a.1.b": "y", "a.2.0": "z", "a.3": "", "a.b": "", "a.01": `{"b":"y"}`, "a.+1": "", "i.#": "3", "i.#.id": "[1,2]", "i.1.v": "w",
		`a\.b.c\*`: "7", `a.\0`: "x", `o.\0`: "zero", `\@t`: "1", "big": "12345678901234567890", "neg": "-1", "frac": "1.50", "absent.x": "", "s.x": "",
		"i.#(id==2).v": "w", "o.?": `[1,2]`,
		"text.in.id": "t", "text.list.0.v": "one", "text.list.#(k==1).v": "one", "text.list.#.k": "[1]", "text.*.id": "t",
		"bad.in": "", "bad.i*": "", "plain.in": "",
	}
	w := payload.Wants{Texts: []string{"text", "bad", "plain"}}
	for path := range want {
		w.Values = append(w.Values, path)
	}
	var found payload.Found
	if err := plan(t, w).Read([]byte(body), &found); err != nil {
		t.Fatal(err)
	}
	for i, path := range w.Values {
		if got := found.Value(i).Text(); got != want[path] {
			t.Errorf("%s: %q, not %q", path, got, want[path])
		}
	}
}

// One of two paths ends where the other goes on, or goes the same way by # and by an index.
func TestReadPathsThatMeet(t *testing.T) {
	w := payload.Wants{Values: []string{"a", "a.b", "a", "l.0.u", "l"}, Files: []payload.Files{
		{Path: "l.#.u", Take: payload.URL},
		{Path: "a.b", Take: payload.URL},
	}}
	var found payload.Found
	body := `{"a":{"b":"http://b"},"l":[{"u":"http://0"},{"u":"http://1"},{"v":{"u":"http://2"}}]}`
	if err := plan(t, w).Read([]byte(body), &found); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`{"b":"http://b"}`, "http://b", `{"b":"http://b"}`, "http://0"} {
		if got := found.Value(i).Text(); got != want {
			t.Errorf("%s: %q, not %q", w.Values[i], got, want)
		}
	}
	if files, _ := found.URLs(); !slices.Equal(files, []string{"http://b", "http://0", "http://1"}) {
		t.Errorf("%q", files)
	}
	for _, twice := range []string{`{"l":[{"u":"","u":""}]}`, `{"l":[{},{"u":"","u":""}]}`, `{"l":{"0":{"u":1,"u":2}}}`} {
		if err := plan(t, w).Read([]byte(twice), new(payload.Found)); !errors.Is(err, payload.ErrRepeatedKey) {
			t.Errorf("%s: %v", twice, err)
		}
	}
}

func TestReadManyPaths(t *testing.T) {
	var w payload.Wants
	for i := range 130 {
		w.Values = append(w.Values, strings.Repeat("k", i+1))
	}
	last := w.Values[129]
	p := plan(t, w)
	if err := p.Read([]byte(`{"`+last+`":1,"`+last+`":2}`), new(payload.Found)); !errors.Is(err, payload.ErrRepeatedKey) {
		t.Error(err)
	}
	var found payload.Found
	if err := p.Read([]byte(`{"`+last+`":1}`), &found); err != nil || found.Value(129).Text() != "1" {
		t.Error(found.Value(129).Text(), err)
	}
}

// After a repeated key the first counts, because a signature may cover what it says.
func TestReadKeepsTheFirstOfARepeatedKey(t *testing.T) {
	p := plan(t, payload.Wants{Values: []string{"a.id", "text.id"}, Texts: []string{"text"}})
	for _, body := range []string{
		`{"a":{"id":1,"id":2},"text":"{\"id\":1}"}`, `{"a":{"id":1},"a":{"id":2},"text":"{\"id\":1}"}`, `{"a":{"id":1},"text":"{\"id\":1,\"id\":2}"}`,
	} {
		var found payload.Found
		err := p.Read([]byte(body), &found)
		if !errors.Is(err, payload.ErrRepeatedKey) || found.Value(0).Text() != "1" || found.Value(1).Text() != "1" {
			t.Errorf("%s: %v, %q, %q", body, err, found.Value(0).Text(), found.Value(1).Text())
		}
	}
}

func TestReadFiles(t *testing.T) {
	const body = `{"f":["https://a/b c.mp3","HTTP://b","HtTpS://ä","text","https://","http:/x","httpx://y","ftp://z","https:\/\/e","https://n\n",["https://deep"],
		{"url":"https://in","other":"https://not","list":["https://listed"],"none":{"url":"https://no"}}]}`
	keys := func(key []byte) payload.Take {
		switch string(key) {
		case "url":
			return payload.URL
		case "list":
			return payload.List
		}
		return 0
	}
	all := []string{"https://a/b c.mp3", "HTTP://b", "HtTpS://ä", "https://e", "https://deep", "https://in", "https://listed"}
	for _, c := range []struct {
		take payload.Take
		want []string
	}{
		{0, nil},
		{payload.URL, nil},
		{payload.Below, all[5:]},
		{payload.List, all[:5]},
		{payload.List | payload.Word, all[:5]},
		{payload.Words, all[1:5]},
		{payload.Words | payload.URL | payload.Below, all[1:]},
		{payload.List | payload.URL | payload.Below, all},
	} {
		var found payload.Found
		if err := plan(t, payload.Wants{Files: []payload.Files{{Path: "f", Take: c.take, Keys: keys}}}).Read([]byte(body), &found); err != nil {
			t.Fatal(err)
		}
		if urls, files := found.URLs(); !slices.Equal(urls, c.want) || files != len(c.want) || found.FilesTotal() != files {
			t.Errorf("%b: %q, %d, not %q", c.take, urls, files, c.want)
		}
	}
}

func TestReadNotes(t *testing.T) {
	keys := func(key []byte) payload.Take {
		if string(key) == "note" {
			return payload.Note
		}
		return payload.URL
	}
	p := plan(t, payload.Wants{Files: []payload.Files{{Path: "f", Take: payload.Below | payload.List, Keys: keys}}})
	var found payload.Found
	if err := p.Read([]byte(`{"f":[{"note":"http://n","a":"http://a"},{"note":"text","b":"http://b","c":{"note":"http://c"}}]}`), &found); err != nil {
		t.Fatal(err)
	}
	urls, files := found.URLs()
	if !slices.Equal(urls, []string{"http://a", "http://b", "http://n"}) || files != 2 || found.FilesTotal() != 2 {
		t.Errorf("%q, %d", urls, files)
	}
}

func TestReadBoundsFiles(t *testing.T) {
	p := plan(t, payload.Wants{Files: []payload.Files{{Path: "f", Take: payload.List}}})
	for _, n := range []int{0, 1, 8, 9, 10_000, 12_000} {
		many := strings.Repeat(`"http://a",`, n)
		var found payload.Found
		if err := p.Read([]byte(`{"f":[`+many+`""]}`), &found); err != nil {
			t.Fatal(err)
		}
		urls, files := found.URLs()
		if len(urls) != min(n, 10_000) || files != len(urls) || found.FilesTotal() != n || found.Complete() != (n <= 10_000) {
			t.Errorf("%d URLs, %d files of %d, not %d", len(urls), files, found.FilesTotal(), n)
		}
	}
}

func TestReadAny(t *testing.T) {
	p := plan(t, payload.Wants{Values: []string{"0.id", "id"}})
	for body, want := range map[string]error{
		`[{"id":1}]`: nil, `{"id":1}`: nil, `"text"`: nil, `7`: nil, ` null `: nil, ``: payload.ErrNotObject, `[`: payload.ErrNotObject, "\"\xff\"": payload.ErrInvalidUTF8,
	} {
		var found payload.Found
		if err := p.ReadAny([]byte(body), &found); !errors.Is(err, want) {
			t.Errorf("%s: %v", body, err)
		}
		if got := found.Value(0).Text() + found.Value(1).Text(); strings.Contains(body, "id") && got != "1" {
			t.Errorf("%s: %q", body, got)
		}
	}
}

func TestNewPlanRefusesTexts(t *testing.T) {
	for _, path := range []string{"a.#", "a.#.b", "w*", "a.#(b==1)", "a.?"} {
		if _, err := payload.NewPlan(payload.Wants{Texts: []string{path}}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{"a", "a.0.b", `a\#.\*`} {
		if _, err := payload.NewPlan(payload.Wants{Texts: []string{path}}); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, good := range []string{"id", "data.task_id", "a.0.b", "a.#.b", "a.#", `a\.b`, `\@type`, `a\|b`, "da*.id", "a.#(b==1).c", `a.#(b.c=="x")#.d`, "mail@x", "ä"} {
		if err := payload.CheckPath(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "..a", "a.", ".a", "a..b", `a\`, "@this", "a.@tostr", "a|b", "a|@tostr", `!"x"`, "{a,b}", "[a]", "a.[b]", "a.#(@this==1)", "a.#[@this==1]", "a.#(b", "a)(", "a.#(b==1))"} {
		if payload.CheckPath(bad) == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestDocument(t *testing.T) {
	for _, c := range []struct {
		format     payload.Format
		body, want string
		err        error
	}{
		{"", `{"a":1}`, `{"a":1}`, nil},
		{payload.JSON, "\xef\xbb\xbf{}", `{}`, nil},
		{payload.Any, "\xef\xbb\xbf[]", `[]`, nil},
		{payload.Form, "", `{}`, nil},
		{payload.Form, "a=1&b=x+y%2Fz&&a=2&c&=d&url=http://x?y=1%26z\r\n", `{"a":"1","b":"x y/z","a":"2","c":"","":"d","url":"http://x?y=1&z"}`, nil},
		{payload.Form, `q=<"\;ä%00`, `{"q":"<\"\\;ä\u0000"}`, nil},
		{payload.Form, "a=%zz", "", payload.ErrNotForm},
		{payload.Form, "a=\x01", "", payload.ErrNotForm},
		{payload.Form, "a=%ff", "", payload.ErrInvalidUTF8},
		{payload.Form, strings.Repeat("a&", 10_000), "", payload.ErrTooManyFields},
	} {
		got, err := payload.Document(c.format, []byte(c.body))
		if flat := strings.ReplaceAll(string(got), "\n", ""); flat != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s %q: %s, %v", c.format, c.body, flat, err)
		}
	}
	repeated, _ := payload.Document(payload.Form, []byte("id=1&id=2"))
	if err := plan(t, payload.Wants{Values: []string{"id"}}).Read(repeated, new(payload.Found)); !errors.Is(err, payload.ErrRepeatedKey) {
		t.Error(err)
	}
}

func ExamplePlan() {
	p, err := payload.NewPlan(payload.Wants{
		Values: []string{"job.id", "outcome.state"},
		Texts:  []string{"outcome"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var found payload.Found
	err = p.Read([]byte(`{"job":{"id":81},"outcome":"{\"state\":\"done\"}"}`), &found)
	fmt.Println(found.Value(0).Text(), found.Value(1).Text(), err)
	// Output: 81 done <nil>
}
