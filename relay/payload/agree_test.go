package payload_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// agreePaths are keys and indexes alone, in which both of the other readers find values.
var agreePaths = []string{"code", "data", "data.task_id", "data.a.b", "data.a.0", "data.a.1.b", "data.0.a", "a.b.data", "a.0.0", "b", "0.1"}

// TestReadAgrees compares a reading with encoding/json and gjson, on bodies of every kind.
func TestReadAgrees(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n /= 10
	}
	p := plan(t, payload.Wants{Values: agreePaths})
	seen := map[error]int{}
	for i := range n {
		g := generator{rand.New(rand.NewPCG(7, uint64(i)))}
		body := g.body()
		seen[agree(t, p, agreePaths, body)]++
		if t.Failed() {
			t.Fatalf("body %d: %q", i, body)
		}
	}
	for _, err := range []error{nil, payload.ErrNotObject, payload.ErrInvalidUTF8, payload.ErrTooDeep, payload.ErrRepeatedKey} {
		if seen[err] < n/1000 {
			t.Errorf("%d bodies of %d: %v", seen[err], n, err)
		}
	}
}

// FuzzRead does the same with any body, and with a path that may be new.
func FuzzRead(f *testing.F) {
	names, _ := filepath.Glob("../testdata/*.json")
	for _, name := range names {
		body, _ := os.ReadFile(name)
		f.Add(body, "data.data.0.audio_url")
	}
	for i := range 50 {
		g := generator{rand.New(rand.NewPCG(8, uint64(i)))}
		f.Add(g.body(), "data.a.0.b")
	}
	f.Add([]byte(`{"data":{"resultJson":"{\"a\":[{\"b\":1,\"\\u0062\":2}]}"}}`), "data.resultJson")
	f.Add([]byte(`{"a":{"b":1,"\ud800":"\\\"{","b":2}}`), "a.b")
	plain := regexp.MustCompile(`^\w+(\.\w+){0,5}$`)
	f.Fuzz(func(t *testing.T, body []byte, path string) {
		paths := agreePaths
		if plain.MatchString(path) {
			paths = append([]string{path}, agreePaths...)
		}
		_ = agree(t, plan(t, payload.Wants{Values: paths}), paths, body)

		// Whatever is wanted, nothing breaks, and a text is read like a body.
		w := payload.Wants{Values: []string{"data.resultJson.a", "a.#.b", "data.resultJson.a.#.b"}, Texts: []string{"data.resultJson"}}
		if payload.CheckPath(path) == nil {
			w.Values = append(w.Values, path)
			w.Files = []payload.Files{{Path: path, Take: payload.Words | payload.Below, Keys: func([]byte) payload.Take { return payload.URL | payload.Below }}}
		}
		p := plan(t, w)
		_ = p.ReadAny(body, new(payload.Found))
		if quoted, err := json.Marshal(string(body)); err == nil && utf8.Valid(body) {
			var inside, outside payload.Found
			text := fmt.Appendf(nil, `{"data":{"resultJson":%s}}`, quoted)
			err := p.Read(text, &inside)
			q := plan(t, payload.Wants{Values: []string{"a"}})
			if q.Read(body, &outside) == nil && err == nil && inside.Value(0).Text() != outside.Value(0).Text() {
				t.Fatalf("%q in a text, %q outside", inside.Value(0).Text(), outside.Value(0).Text())
			}
		}
	})
}

// agree reads body and fails unless the others read the same. It returns the kind of the error.
func agree(t *testing.T, p *payload.Plan, paths []string, body []byte) error {
	t.Helper()
	var found payload.Found
	err := p.Read(body, &found)
	twice := errors.Is(err, payload.ErrRepeatedKey)
	kind := err
	if twice {
		kind = payload.ErrRepeatedKey
	}
	object, _ := decode(body).(map[string]any)
	if !utf8.Valid(body) || object == nil {
		if err == nil || twice {
			t.Errorf("encoding/json refuses what Read reads: %v", err)
		}
		return kind
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	tree, depth := parseTree(d)
	repeated := false
	for _, path := range paths {
		repeated = repeated || tree.repeats(strings.Split(path, "."))
	}
	switch {
	case depth > payload.MaxDepth:
		if !errors.Is(err, payload.ErrTooDeep) {
			t.Errorf("depth %d: %v", depth, err)
		}
		return kind
	case repeated != twice || !repeated && err != nil:
		t.Errorf("%v, a key repeated: %v", err, repeated)
	}
	if err != nil {
		return kind
	}
	for i, path := range paths {
		theirs, other := gjson.GetBytes(body, path), native(object, strings.Split(path, "."))
		if s, ok := other.(string); !reflect.DeepEqual(decode([]byte(theirs.Raw)), other) || ok && s != theirs.Str {
			continue // as with a lone surrogate
		}
		if got, want := found.Value(i).Text(), text(theirs); got != want || found.Value(i).Present() != (theirs.Type != gjson.Null) {
			t.Errorf("%s: %q, not %q", path, got, want)
		}
	}
	return nil
}

// decode returns what encoding/json makes of a document; nil of what it refuses.
func decode(doc []byte) (v any) {
	if !json.Valid(doc) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber() // a float64 cannot have every number
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// text returns a value as Value.Text promises it.
func text(v gjson.Result) string {
	switch v.Type {
	case gjson.Number:
		if n, err := strconv.ParseFloat(v.Raw, 64); err == nil && strings.ContainsAny(v.Raw, ".eE-") && n == float64(int64(n)) && -1<<53 < n && n < 1<<53 {
			return fmt.Sprint(int64(n))
		}
		return v.Raw
	case gjson.JSON:
		var b bytes.Buffer
		_ = json.Compact(&b, []byte(v.Raw))
		return b.String()
	case gjson.Null:
		return ""
	}
	return v.String()
}

// native returns the value at a path of what encoding/json has made.
func native(v any, path []string) any {
	for _, name := range path {
		switch parent := v.(type) {
		case map[string]any:
			v = parent[name]
		case []any:
			n, err := strconv.ParseUint(name, 10, 31)
			if err != nil || n >= uint64(len(parent)) {
				return nil
			}
			v = parent[n]
		default:
			return nil
		}
	}
	return v
}

// tree is a value with all its keys, the repeated ones too; names is nil in an array.
type tree struct {
	names []string
	below []tree
}

func parseTree(d *json.Decoder) (t tree, depth int) {
	token, err := d.Token()
	if err != nil {
		return t, 0
	}
	open, ok := token.(json.Delim)
	if !ok {
		return t, 0
	}
	for d.More() {
		if open == '{' {
			name, _ := d.Token()
			t.names = append(t.names, name.(string))
		}
		below, n := parseTree(d)
		t.below = append(t.below, below)
		depth = max(depth, n)
	}
	_, _ = d.Token()
	return t, depth + 1
}

// repeats reports whether a key of the path is repeated in its object, looking below the first of each.
func (t tree) repeats(path []string) bool {
	if len(path) == 0 {
		return false
	}
	if t.names == nil {
		n, err := strconv.ParseUint(path[0], 10, 31)
		return err == nil && n < uint64(len(t.below)) && t.below[n].repeats(path[1:])
	}
	count, first := 0, tree{}
	for i, name := range t.names {
		if name == path[0] {
			if count++; count == 1 {
				first = t.below[i]
			}
		}
	}
	return count > 1 || first.repeats(path[1:])
}

// generator makes bodies: valid ones, ones with an error, deep ones, with repeated keys and with escapes.
type generator struct{ *rand.Rand }

func (g generator) body() []byte {
	var b bytes.Buffer
	deep := 0
	if g.IntN(20) == 0 {
		deep = 55 + g.IntN(15)
	}
	g.object(&b, 4, deep)
	body := b.Bytes()
	if g.IntN(3) > 0 {
		return body
	}
	for range 1 + g.IntN(2) {
		at := g.IntN(len(body))
		switch g.IntN(5) {
		case 0:
			body = body[:at+1]
		case 1:
			body = append(body[:at:at], body[at+1:]...)
		case 2:
			body = append(body[:at:at], append([]byte(g.pick("{", "}", "[", "]", ",", ":", `"`, `\`, "0", "-", ".", "e", "\xff", "\xc3", "\x00", " ")), body[at:]...)...)
		case 3:
			body[at] = byte(g.IntN(256))
		case 4:
			body = append(body[:at:at], append([]byte(g.pick("\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf", "ä", "\u2028", `\u12`, `\x`, "tru", "\x1f")), body[at:]...)...)
		}
		if len(body) == 0 {
			break
		}
	}
	return body
}

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) space(b *bytes.Buffer) {
	if g.IntN(4) == 0 {
		b.WriteString(g.pick(" ", "\n", "\t", "\r", "  "))
	}
}

func (g generator) object(b *bytes.Buffer, room, deep int) {
	b.WriteByte('{')
	g.space(b)
	for i := range g.IntN(6) {
		if i > 0 {
			b.WriteByte(',')
			g.space(b)
		}
		g.quoted(b, g.pick("code", "data", "data", "task_id", "a", "a", "b", "0", "1", "x", "y", "z"))
		g.space(b)
		b.WriteByte(':')
		g.space(b)
		g.value(b, room-1, deep)
		g.space(b)
		deep = 0
	}
	b.WriteByte('}')
}

func (g generator) value(b *bytes.Buffer, room, deep int) {
	if deep > 0 {
		closing := make([]byte, deep)
		for i := range deep {
			if g.IntN(2) == 0 {
				b.WriteString(`{"a":`)
				closing[deep-1-i] = '}'
			} else {
				b.WriteByte('[')
				closing[deep-1-i] = ']'
			}
		}
		b.WriteByte('1')
		b.Write(closing)
		return
	}
	n := g.IntN(12)
	if room <= 0 {
		n %= 6
	}
	switch n {
	case 0:
		b.WriteString(g.pick("0", "-1", "200", "2e2", "1.50", "-0.0", "9007199254740993", "1E400", "12345678901234567890"))
	case 1:
		b.WriteString(g.pick("true", "false", "null"))
	case 2, 3, 4, 5:
		g.quoted(b, g.pick("", "a", "https://a/b c", `"`, `\`, "ä€😀", "\u2028", "\x7f", "\n", "5e72d367bdfbe447", "{[", "]}"))
	case 6, 7:
		b.WriteByte('[')
		for i := range g.IntN(4) {
			if i > 0 {
				b.WriteByte(',')
			}
			g.space(b)
			g.value(b, room-1, 0)
			g.space(b)
		}
		b.WriteByte(']')
	default:
		g.object(b, room, 0)
	}
}

// quoted writes a string, some of its characters escaped.
func (g generator) quoted(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r < 0x10000 && g.IntN(12) == 0:
			fmt.Fprintf(b, g.pick(`\u%04x`, `\u%04X`), r)
		default:
			b.WriteRune(r)
		}
	}
	if g.IntN(40) == 0 {
		b.WriteString(g.pick(`\ud800`, `\ud83d\ude00`, `\udc00x`, `\/`, `\b\f\t`))
	}
	b.WriteByte('"')
}
