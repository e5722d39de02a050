package intake_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// This file is the reference for the speed of Identify and for the keys and fingerprints that stores keep: it reads a
// callback by passes of its own for depth, UTF-8, validity and repeated keys, and then by gjson, path by path. It knows
// what suno and kie sent when the first keys were stored.

// referenceCheck reports whether everybody will read the same from b along the gjson paths: it must be a JSON object in valid
// UTF-8, nested no deeper than payload.MaxDepth, and no key of a path may stand twice in its object, since gjson takes the first
// of two where encoding/json takes the last. A path is followed through keys, indexes and #, and no further than its first
// query, wildcard or pipe. The error is or wraps one of payload.ErrNotObject, payload.ErrInvalidUTF8, payload.ErrTooDeep, ErrRepeatedKey.
func referenceCheck(b []byte, paths []string) error {
	switch {
	case deeperThan(b, payload.MaxDepth): // first: it alone stands any input without recursion
		return payload.ErrTooDeep
	case !utf8.Valid(b):
		return payload.ErrInvalidUTF8
	case !json.Valid(b):
		return payload.ErrNotObject
	}
	start := skipSpace(b, 0)
	if b[start] != '{' {
		return payload.ErrNotObject
	}
	return checkKeys(b, start, paths)
}

// deeperThan counts brackets outside of strings, in anything at all.
func deeperThan(b []byte, limit int) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			if depth++; depth > limit {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// CheckKeys looks for repeated keys on the paths, in a body that CheckBody has passed. The error wraps payload.ErrRepeatedKey.
func CheckKeys(b []byte, paths []string) error { return checkKeys(b, skipSpace(b, 0), paths) }

// checkKeys looks for repeated keys on the paths, in the valid object at b[start].
func checkKeys(b []byte, start int, paths []string) error {
	for len(paths) > maxPaths {
		if err := checkKeys(b, start, paths[:maxPaths]); err != nil {
			return err
		}
		paths = paths[maxPaths:]
	}
	w := keyWalk{b: b, paths: paths}
	w.value(start, 1<<len(paths)-1, 0)
	return w.err
}

// maxPaths is how many paths a keyWalk follows: as many as its sets have bits.
const maxPaths = 64

// keyWalk goes once through a valid body, following many paths at a time. A set of paths is a mask of their places.
// All paths that are still followed have used up as many parts as the walk is deep.
type keyWalk struct {
	b     []byte
	paths []string
	err   error
}

// value walks the value at b[i] along the paths of the set and returns where it ends.
func (w *keyWalk) value(i int, set uint64, depth int) int {
	switch {
	case set == 0:
		return skipValue(w.b, i)
	case w.b[i] == '{':
		return w.object(i, set, depth)
	case w.b[i] == '[':
		return w.array(i, set, depth)
	}
	return skipValue(w.b, i)
}

func (w *keyWalk) object(i int, set uint64, depth int) int {
	var parts [maxPaths]part // once for all keys
	set = w.partsAt(depth, set, &parts)
	var seen uint64
	for i = skipSpace(w.b, i+1); w.b[i] != '}'; {
		end := skipString(w.b, i)
		here := named(w.b[i:end], set, &parts)
		if w.err == nil && here&seen != 0 {
			path := w.paths[bits.TrailingZeros64(here&seen)]
			w.err = fmt.Errorf("%w, on the path %s", payload.ErrRepeatedKey, path)
		}
		seen |= here
		i = skipSpace(w.b, skipSpace(w.b, end)+1) // the colon between
		i = w.next(w.value(i, here, depth+1))
	}
	return i + 1
}

func (w *keyWalk) array(i int, set uint64, depth int) int {
	var parts [maxPaths]part
	set = w.partsAt(depth, set, &parts)
	var every uint64 // the paths that lead through each element
	var index [maxPaths]int
	for rest := set; rest != 0; rest &= rest - 1 {
		p := bits.TrailingZeros64(rest)
		var err error
		if parts[p] == "#" {
			every |= 1 << p
		} else if index[p], err = strconv.Atoi(string(parts[p])); err != nil {
			set &^= 1 << p // a key: it leads through no array
		}
	}
	if set == 0 {
		return skipValue(w.b, i)
	}
	element := 0
	for i = skipSpace(w.b, i+1); w.b[i] != ']'; element++ {
		here := every
		for rest := set &^ every; rest != 0; rest &= rest - 1 {
			if p := bits.TrailingZeros64(rest); index[p] == element {
				here |= 1 << p
			}
		}
		i = w.next(w.value(i, here, depth+1))
	}
	return i + 1
}

// next goes to what follows the member or element that ended at b[i]: another one, or the closing bracket.
func (w *keyWalk) next(i int) int {
	i = skipSpace(w.b, i)
	if w.b[i] == ',' {
		i = skipSpace(w.b, i+1)
	}
	return i
}

// partsAt fills in the part of each path of the set at this depth, and leaves those in the set that have one.
func (w *keyWalk) partsAt(depth int, set uint64, parts *[maxPaths]part) (still uint64) {
	for ; set != 0; set &= set - 1 {
		p := bits.TrailingZeros64(set)
		var ok bool
		if parts[p], ok = pathPart(w.paths[p], depth); ok {
			still |= 1 << p
		}
	}
	return still
}

// named returns the paths of the set whose part is this key, a quoted JSON string.
func named(quoted []byte, set uint64, parts *[maxPaths]part) (here uint64) {
	key := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(key, '\\') >= 0 {
		var s string
		_ = json.Unmarshal(quoted, &s) // it is part of a valid body
		key = []byte(s)
	}
	for ; set != 0; set &= set - 1 {
		if p := bits.TrailingZeros64(set); parts[p].isKey(key) {
			here |= 1 << p
		}
	}
	return here
}

// The skips below expect valid JSON; skipString alone stands anything, ending at the end of b at the latest.

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns what follows the string that opens at b[i].
func skipString(b []byte, i int) int {
	open := i
	for i++; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		i += n
		slashes := 0
		for i-1-slashes > open && b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

func skipValue(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
			if depth < 0 { // the bracket that closes what the value stands in
				return i
			}
		case ',':
		default:
			continue
		}
		if depth == 0 {
			if b[i] == ',' {
				return i
			}
			return i + 1
		}
	}
	return i
}

// part is one part of a path, as it is written there.
type part string

// pathPart returns part n of a path; ok is false where the path has no such part, or a part that is not plain comes
// before or at it.
func pathPart(path string, n int) (_ part, ok bool) {
	start := 0
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			i++
		case '.':
			if n == 0 {
				return part(path[start:i]), true
			}
			n--
			start = i + 1
		case '*', '?', '|', '(':
			return "", false
		case '@', '!', '{', '[':
			if i == start {
				return "", false
			}
		}
	}
	return part(path[start:]), n == 0
}

// isKey compares with a key, without the backslashes that the path needs.
func (p part) isKey(key []byte) bool {
	if strings.IndexByte(string(p), '\\') < 0 {
		return string(p) == string(key)
	}
	k := 0
	for i := 0; i < len(p); i++ {
		if p[i] == '\\' && i+1 < len(p) {
			i++
		}
		if k == len(key) || p[i] != key[k] {
			return false
		}
		k++
	}
	return k == len(key)
}

const exact = 1 << 53

// text is a value as text: 200, 2e2 and "200" are equal, and white space within an object or array does not count.
// A value that is null or not there is empty.
func text(v gjson.Result) string {
	switch v.Type {
	case gjson.Null:
		return ""
	case gjson.String:
		return v.Str
	case gjson.Number:
		if isDigits(v.Raw) {
			return v.Raw
		}
		if n, ok := integer(v); ok {
			return strconv.FormatInt(n, 10)
		}
	case gjson.JSON:
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(v.Raw)) == nil {
			return compact.String()
		}
	}
	return v.Raw
}

// integer returns a number that is written with a fraction or an exponent and has no fraction.
func integer(v gjson.Result) (n int64, ok bool) {
	if v.Num != math.Trunc(v.Num) || math.Abs(v.Num) >= exact {
		return 0, false
	}
	return int64(v.Num), true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

type referencePaths struct{ TaskID, Stage, Code, Files []string }

// maxNamed bounds what a body that nobody has verified yet can make of memory: a file of one byte costs sixteen.
const maxNamed = 10_000

// referenceFamily are the paths of the audio APIs behind suno and kie, which serve the same tasks with other field names.
var referenceFamily = referencePaths{
	TaskID: []string{"data.task_id", "data.taskId"},
	Stage:  []string{"data.callbackType"},
	Code:   []string{"code"},
	Files:  []string{"data.vocal_removal_info", "data.vocal_separation_info", "data.data"},
}

// parser reads a body where its paths say.
type parser struct {
	at        referencePaths
	all       []string
	integerID bool
}

func newParser(p referencePaths) *parser {
	return &parser{at: p, all: slices.Concat(p.TaskID, p.Stage, p.Code, p.Files)}
}

func (p *parser) Identify(body []byte) (relay.Task, error) {
	doc := string(body) // one copy, of which gjson gives parts
	id, err := p.taskID(doc)
	if err != nil {
		return relay.Task{}, err
	}
	id = strings.Clone(id) // it outlives the callback, with its event: it must not hold the whole copy
	stage, err := word(doc, p.at.Stage, "stage")
	if err != nil {
		return relay.Task{ID: id}, err
	}
	code, err := word(doc, p.at.Code, "code")
	if err != nil {
		return relay.Task{ID: id}, err
	}
	var files []string
	for _, path := range p.at.Files {
		files = appendFiles(files, gjson.Get(doc, path))
	}
	if len(files) > maxNamed {
		return relay.Task{ID: id}, fmt.Errorf("the body names more than %d files", maxNamed)
	}
	return relay.Task{ID: id, Stage: strings.Clone(stage), Code: strings.Clone(code), Files: files}, nil
}

func (p *parser) taskID(doc string) (string, error) {
	var id string
	for _, path := range p.at.TaskID {
		v := gjson.Get(doc, path)
		switch {
		case v.Type == gjson.Null:
			continue
		case v.Type != gjson.String && (!p.integerID || v.Type != gjson.Number):
			return "", fmt.Errorf("the task id at %s is not a string", path)
		case id != "" && id != text(v):
			return "", fmt.Errorf("the body names two tasks, at %s", strings.Join(p.at.TaskID, " and "))
		}
		if id = text(v); id == "" {
			return "", fmt.Errorf("the task id at %s is empty", path)
		}
	}
	if id == "" {
		return "", fmt.Errorf("the body has no task id at %s", strings.Join(p.at.TaskID, " or "))
	}
	return id, nil
}

// word is the text at the first of the paths that has any; it is empty where none has.
func word(doc string, paths []string, name string) (string, error) {
	for _, path := range paths {
		switch v := gjson.Get(doc, path); v.Type {
		case gjson.Null:
		case gjson.JSON:
			return "", fmt.Errorf("the %s at %s is an object or array", name, path)
		default:
			return text(v), nil
		}
	}
	return "", nil
}

func appendFiles(files []string, v gjson.Result) []string {
	switch {
	case len(files) > maxNamed:
		return files
	case v.Type == gjson.String && v.Str != "":
		return append(files, v.Str)
	case v.IsArray():
		v.ForEach(func(_, e gjson.Result) bool {
			files = appendFiles(files, e)
			return true
		})
	case v.IsObject():
		v.ForEach(func(key, e gjson.Result) bool {
			if namesURL(key.Str) && e.Type == gjson.String && isURL(e.Str) {
				files = append(files, e.Str)
			}
			return true
		})
	}
	return files
}

func namesURL(key string) bool { return strings.HasSuffix(key, "url") || strings.HasSuffix(key, "Url") }

func isURL(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

const maxFiles = 64

// referenceIdentify reads from a callback what it is about. It checks the body first , so that body may be anything.
// The error says, for the sender, what is wrong. Where the task's id could be read all the same, the identity has it: a
// signature may cover it.
func referenceIdentify(p *parser, dedupe []relay.DedupeField, body []byte, header http.Header) (intake.Identity, error) {
	unclear := referenceCheck(body, p.all)
	if unclear != nil && !errors.Is(unclear, payload.ErrRepeatedKey) {
		return intake.Identity{}, unclear
	}
	task, err := p.Identify(body)
	var key [32]byte
	if err == nil {
		key, err = dedupeKey(dedupe, &task, body, header)
	}
	if err = cmp.Or(unclear, err); err != nil {
		return intake.Identity{Task: relay.Task{ID: task.ID}}, err
	}
	id := intake.Identity{Task: task, Key: key, Fingerprint: fingerprint(&task)}
	id.Files = id.Files[:min(len(id.Files), maxFiles)]
	return id, nil
}

func dedupeKey(fields []relay.DedupeField, t *relay.Task, body []byte, header http.Header) ([32]byte, error) {
	if len(fields) == 0 {
		fields = relay.DefaultDedupe
	}
	var few [8]string // so that the usual key needs no slice of its own
	values := few[:0]
	for _, f := range fields {
		value, err := dedupeValue(f, t, body, header)
		if err != nil {
			return [32]byte{}, err
		}
		values = append(values, value)
	}
	return hash(values), nil
}

func dedupeValue(f relay.DedupeField, t *relay.Task, body []byte, header http.Header) (string, error) {
	switch f.Kind {
	case relay.DedupeTaskID:
		return t.ID, nil
	case relay.DedupeStage:
		return t.Stage, nil
	case relay.DedupeCode:
		return t.Code, nil
	case relay.DedupePath:
		if err := checkKeys(body, skipSpace(body, 0), []string{f.Name}); err != nil {
			return "", err
		}
		v := gjson.GetBytes(body, f.Name)
		if v.Type == gjson.Null {
			return "", fmt.Errorf("the body has nothing at %s", f.Name)
		}
		return text(v), nil
	case relay.DedupeHeader:
		values := header.Values(f.Name)
		if len(values) == 0 {
			return "", fmt.Errorf("the header %s is missing", f.Name)
		}
		return strings.Join(values, ", "), nil
	}
	return "", errors.New("the source's dedupe key has an unknown field")
}

func fingerprint(t *relay.Task) [32]byte {
	var few [16]string
	values := append(few[:0], t.Code, t.Stage)
	values = append(values, t.Files...)
	slices.Sort(values[2:])
	return hash(values)
}

// hash is the SHA-256 of the JSON array of values. Stores keep the hashes, so its input must never change.
func hash(values []string) [32]byte {
	array, _ := json.Marshal(values) // strings always marshal
	return sha256.Sum256(array)
}
