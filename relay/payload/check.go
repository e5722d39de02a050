package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays of a body may be nested. gjson recurses without a bound, so nothing deeper
// may reach it.
const MaxDepth = 64

// Why CheckBody refuses a body. Each is one sentence for the sender.
var (
	ErrNotObject   = errors.New("the body is not a JSON object")
	ErrInvalidUTF8 = errors.New("the body is not valid UTF-8")
	ErrTooDeep     = fmt.Errorf("the body is nested deeper than %d levels", MaxDepth)
	// ErrRepeatedKey is wrapped with the path of the key.
	ErrRepeatedKey = errors.New("a key stands twice in its object")
)

// CheckBody says whether everybody will read the same from b along the gjson paths: it must be a JSON object in valid
// UTF-8, nested no deeper than MaxDepth, and no key of a path may stand twice in its object, since gjson takes the first
// of two where encoding/json takes the last. A path is followed through keys, indexes and #, and no further than its first
// query, wildcard or pipe. The error is or wraps one of ErrNotObject, ErrInvalidUTF8, ErrTooDeep, ErrRepeatedKey.
func CheckBody(b []byte, paths []string) error {
	switch {
	case deeperThan(b, MaxDepth): // first: it alone stands any input without recursion
		return ErrTooDeep
	case !utf8.Valid(b):
		return ErrInvalidUTF8
	case !json.Valid(b):
		return ErrNotObject
	}
	start := skipSpace(b, 0)
	if b[start] != '{' {
		return ErrNotObject
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

// CheckKeys looks for repeated keys on the paths, in a body that CheckBody has passed. The error wraps ErrRepeatedKey.
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
			w.err = fmt.Errorf("%w, on the path %s", ErrRepeatedKey, path)
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

// named gives the paths of the set whose part is this key, a quoted JSON string.
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
