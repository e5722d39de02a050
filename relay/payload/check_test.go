package payload_test

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/callbackrelay/caddy-relay/relay/payload"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay/provider"
)

func TestCheckBody(t *testing.T) {
	paths := []string{"code", "data.task_id", "data.data", "list.1.id", "all.#.id", `a\.b`, "w*.x", "p|q"}
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for body, want := range map[string]error{
		`{}`:                                 nil,
		" {\n\t\r} ":                         nil,
		``:                                   payload.ErrNotObject,
		` `:                                  payload.ErrNotObject,
		`[]`:                                 payload.ErrNotObject,
		`"{}"`:                               payload.ErrNotObject,
		`null`:                               payload.ErrNotObject,
		`{} {}`:                              payload.ErrNotObject,
		`{"a":1,}`:                           payload.ErrNotObject,
		`{"a`:                                payload.ErrNotObject,
		"\xef\xbb\xbf{}":                     payload.ErrNotObject,
		"{\"a\":\"\xff\"}":                   payload.ErrInvalidUTF8,
		nested(64):                           nil,
		nested(65):                           payload.ErrTooDeep,
		`{"a":` + strings.Repeat("[", 8<<20): payload.ErrTooDeep,
		`{"a":"` + strings.Repeat("[", 100) + `"}`:    nil,
		`{"a":"\"` + strings.Repeat("[", 100) + `"}`:  nil,
		`{"a":"\\",` + strings.Repeat("[", 100) + `}`: payload.ErrTooDeep,

		`{"x":1,"x":2}`:              nil, // on no path
		`{"code":1,"code":1}`:        payload.ErrRepeatedKey,
		`{"code":1 , "c\u006fde":1}`: payload.ErrRepeatedKey,
		`{"data":{"task_id":"a"},"x":[{"task_id":1}],"task_id":1}`:     nil,
		`{"data":{"task_id":"a"},"data":1}`:                            payload.ErrRepeatedKey,
		`{"data":1,"data":{"task_id":"a"}}`:                            payload.ErrRepeatedKey,
		`{"data":{"x":{"task_id":1},"task_id":"a","task_id":"a"}}`:     payload.ErrRepeatedKey,
		`{"data":{"data":[],"task_id":"a","data":[]}}`:                 payload.ErrRepeatedKey,
		`{"data":{"data":[{"id":1,"id":2}]}}`:                          nil,
		`{"list":[{"id":1,"id":2},{"id":1}]}`:                          nil,
		`{"list":[{"id":1},{"id":1,"id":2}]}`:                          payload.ErrRepeatedKey,
		`{"list":{"1":{"id":1,"id":2}}}`:                               payload.ErrRepeatedKey,
		`{"all":[{"id":1}, {"id":2},"]}",{"id":3,"x":[1,{}],"id":4}]}`: payload.ErrRepeatedKey,
		`{"all":[{"id":1}, {"id":2}, 7 , []]}`:                         nil,
		`{"a.b":1,"a\u002eb":2}`:                                       payload.ErrRepeatedKey,
		`{"w1":{"x":1,"x":2},"w1":1,"p":1,"p":2}`:                      nil, // not plain
	} {
		if err := payload.CheckBody([]byte(body), paths); !errors.Is(err, want) {
			t.Errorf("%.80s: %v, not %v", body, err, want)
		}
	}
}

func TestCheckBodyTakesMorePathsThanAMaskHolds(t *testing.T) {
	paths := make([]string, 130)
	for i := range paths {
		paths[i] = strings.Repeat("k", i+1)
	}
	last := paths[len(paths)-1]
	if err := payload.CheckBody([]byte(`{"`+last+`":1,"`+last+`":2}`), paths); !errors.Is(err, payload.ErrRepeatedKey) {
		t.Error(err)
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

// FuzzCheckBody compares with what encoding/json says of a whole body, and of every key on the paths.
func FuzzCheckBody(f *testing.F) {
	f.Add([]byte(`{"data":{"task_id":"a","list":[{"id":1},{"id":2,"id":3}]},"c\u006fde":1}`), "data.list.#.id")
	f.Add([]byte(`{"a":{"b":1,"\ud800":"\\\"{","b":2}}`), `a.b`)
	f.Add([]byte(`{"a.b":[{},[[]],"]",-1e5,true]}`), `a\.b.1.0`)
	f.Fuzz(func(t *testing.T, body []byte, path string) {
		paths := append([]string{path}, provider.Suno().Paths()...)
		err := payload.CheckBody(body, paths)
		var object map[string]any
		valid := json.Unmarshal(body, &object) == nil && object != nil && utf8.Valid(body)
		switch {
		case errors.Is(err, payload.ErrTooDeep):
		case valid != (err == nil || errors.Is(err, payload.ErrRepeatedKey)):
			t.Fatalf("%v, but encoding/json: %v", err, valid)
		}
		if err != nil {
			return
		}
		for _, at := range [][]string{{"code"}, {"data", "task_id"}, {"data", "taskId"}, {"data", "callbackType"}} {
			want := any(object)
			for _, key := range at {
				parent, _ := want.(map[string]any)
				want = parent[key]
			}
			if got := gjson.GetBytes(body, strings.Join(at, ".")).Value(); !reflect.DeepEqual(got, want) {
				t.Fatalf("%v: gjson reads %#v, encoding/json %#v", at, got, want)
			}
		}
	})
}

func BenchmarkCheckBody(b *testing.B) {
	body, err := os.ReadFile("../testdata/callback-separate-vocal.json")
	if err != nil {
		b.Fatal(err)
	}
	paths := provider.Suno().Paths()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := payload.CheckBody(body, paths); err != nil {
			b.Fatal(err)
		}
	}
}
