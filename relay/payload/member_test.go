package payload_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

func setURL(body string, more ...string) (string, error) {
	set, err := payload.SetMember([]byte(body), "callBackUrl", []byte(`"U"`), append(more, "callBackUrl")...)
	return string(set), err
}

func TestSetMember(t *testing.T) {
	for body, want := range map[string]string{
		`{}`:          `{"callBackUrl":"U"}`,
		" {\n} ":      " {\"callBackUrl\":\"U\"\n} ",
		`{"a":1}`:     `{"callBackUrl":"U","a":1}`,
		`{ "a" : 1 }`: `{"callBackUrl":"U", "a" : 1 }`,
		"{\n\t\"a\": 1,\n\t\"callBackUrl\": \"x\",\n\t\"b\": 2\n}\n": "{\"callBackUrl\":\"U\",\n\t\"a\": 1,\n\t\"b\": 2\n}\n",
		`{"callBackUrl":"x"}`: `{"callBackUrl":"U"}`,
		`{"callBackUrl":"x","CALLBACKURL":null,"a":[],"callbackurl":{"a":[1,"}"]}}`: `{"callBackUrl":"U","a":[]}`,
		`{"a":1,"a":2,"callBackUrl":"x","callBackUrl":"y"}`:                         `{"callBackUrl":"U","a":1,"a":2}`,
		`{"\u0063allBackUrl":"x","call\u0042ack\u0055RL":"y","a":1}`:                `{"callBackUrl":"U","a":1}`,
		`{"callBac\u212aUrl":"x","callBacKUrl":"x"}`:                                `{"callBackUrl":"U"}`, // the Kelvin sign
		`{"callBackUrl ":"x","callBack\\u0055rl":"y","xcallBackUrl":1,"":2}`:        `{"callBackUrl":"U","callBackUrl ":"x","callBack\\u0055rl":"y","xcallBackUrl":1,"":2}`,
		`{"input":{"callBackUrl":"x","a":[{"callbackurl":1}]},"l":["callBackUrl"]}`: `{"callBackUrl":"U","input":{"callBackUrl":"x","a":[{"callbackurl":1}]},"l":["callBackUrl"]}`,
		`{"n":1.0e+5,"m":12345678901234567890,"s":"\u00e9é\/<&>"}`:                  `{"callBackUrl":"U","n":1.0e+5,"m":12345678901234567890,"s":"\u00e9é\/<&>"}`,
		"\xef\xbb\xbf{\"a\":1}": "\xef\xbb\xbf{\"callBackUrl\":\"U\",\"a\":1}",
		`{"calBackUrl":"x"}`:    `{"callBackUrl":"U","calBackUrl":"x"}`,
	} {
		if set, err := setURL(body); err != nil || set != want {
			t.Errorf("%q: got %q, %v; expected %q", body, set, err, want)
		}
	}
	if set, err := setURL(`{"CALBACKURL":"x","callbackurl":1,"a":1}`, "calBackUrl"); err != nil || set != `{"callBackUrl":"U","a":1}` {
		t.Errorf("two keys are replaced: got %q, %v", set, err)
	}
}

func TestSetMemberRefuses(t *testing.T) {
	for body, want := range map[string]error{
		``:                                  payload.ErrNotObject,
		` `:                                 payload.ErrNotObject,
		`null`:                              payload.ErrNotObject,
		`[{}]`:                              payload.ErrNotObject,
		`"{}"`:                              payload.ErrNotObject,
		`{`:                                 payload.ErrNotObject,
		`{"a":1`:                            payload.ErrNotObject,
		`{"a":1}x`:                          payload.ErrNotObject,
		`{"a":1}{}`:                         payload.ErrNotObject,
		`{"a":1,}`:                          payload.ErrNotObject,
		`{"a" 1}`:                           payload.ErrNotObject,
		`{'a':1}`:                           payload.ErrNotObject,
		"{\"a\":\"\x01\"}":                  payload.ErrNotObject,
		"{}\xef\xbb\xbf":                    payload.ErrNotObject,
		"\xef\xbb\xbf\xef\xbb\xbf{}":        payload.ErrNotObject,
		"{\"a\":\"\xff\"}":                  payload.ErrInvalidUTF8,
		`{"a":` + strings.Repeat("[", 100):  payload.ErrTooDeep,
		strings.Repeat(`{"a":`, 65) + "1}}": payload.ErrTooDeep,
	} {
		if set, err := setURL(body); !errors.Is(err, want) {
			t.Errorf("%.80q: got %q, %v; expected %v", body, set, err, want)
		}
	}
}

// FuzzSetMember compares what encoding/json reads from a body before and after.
func FuzzSetMember(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"callBackUrl":"x"}`, ` { "\u0063allbackurl" : [ ] , "b" : { "callBackUrl" : 1 } } `, `{"a":1}x`, `[]`, `{"a":1,"a":2}`,
		"\xef\xbb\xbf{\"a\":1}", `{"callBackUrl":1,"callBackUrl":2}`, `{"a":"\ud800","b":-0.0e1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		set, err := payload.SetMember(body, "callBackUrl", []byte(`"U"`), "callBackUrl")
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed in place")
		}
		members, valid := topLevel(body)
		if err != nil {
			if valid && !errors.Is(err, payload.ErrInvalidUTF8) && !errors.Is(err, payload.ErrTooDeep) {
				t.Fatalf("%q: refused: %v", body, err)
			}
			return
		}
		after, ok := topLevel(set)
		if !valid || !ok {
			t.Fatalf("%q: set to %q, which is valid: %v", body, set, ok)
		}
		want := [][2]string{{"callBackUrl", `"U"`}}
		for _, m := range members {
			if !strings.EqualFold(m[0], "callBackUrl") {
				want = append(want, m)
			}
		}
		if !reflect.DeepEqual(after, want) {
			t.Fatalf("%q: got %q, expected %q", body, after, want)
		}
	})
}

// topLevel returns the members of an object as encoding/json reads them: each key, and the bytes of its value.
func topLevel(body []byte) (members [][2]string, ok bool) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if !json.Valid(body) || bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token() // the brace: the body is valid
	for d.More() {
		key, _ := d.Token()
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, false
		}
		members = append(members, [2]string{key.(string), string(value)})
	}
	return members, true
}
