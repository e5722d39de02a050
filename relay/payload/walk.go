package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// spot holds what is wanted of a value: by the paths that lead to it, and as a file.
type spot struct {
	node *node // nil: no path leads here
	keys func(key []byte) Take
	take Take
}

// enter returns the spot of a value to which a path leads, too.
func (s spot) enter(n *node) spot {
	s.node = n
	if n.files.Path != "" {
		s.keys, s.take = n.files.Keys, n.files.Take
	}
	return s
}

// walk goes once through a document. It returns where the document ends, or why it is refused, as scans do. The steps
// below get the place of what they walk and return what follows it.
func walk(doc []byte, s spot, found *Found) int {
	i := walkValue(found, doc, skipSpace(doc, 0), s, 0)
	if i >= 0 && skipSpace(doc, i) != len(doc) {
		return notJSON
	}
	return i
}

func walkValue(f *Found, doc []byte, i int, s spot, depth int) int {
	if s.node == nil && s.take == 0 {
		return scanValue(doc, i, depth)
	}
	if i == len(doc) {
		return notJSON
	}
	start := i
	switch doc[i] {
	case '{':
		i = walkObject(f, doc, i, s, depth+1)
	case '[':
		i = walkArray(f, doc, i, s, depth+1)
	case '"':
		var escaped bool
		if i, escaped = scanString(doc, i); i >= 0 {
			f.setAll(s.node, doc[start:i]) // before what is in it: the value is the string
			walkText(f, doc[start:i], escaped, s)
		}
		return i
	default:
		i = scanScalar(doc, i)
	}
	if i >= 0 {
		f.setAll(s.node, doc[start:i])
	}
	return i
}

func walkObject(f *Found, doc []byte, i int, s spot, depth int) int {
	if depth > MaxDepth {
		return tooDeep
	}
	if i = skipSpace(doc, i+1); i < len(doc) && doc[i] == '}' {
		return i + 1
	}
	if s.node != nil && len(s.node.keys) == 0 {
		s.node = nil
	}
	wanted := s.node != nil || s.take&Below != 0
	var few [64]bool
	seen := few[:]
	if s.node != nil && len(s.node.keys) > len(few) {
		seen = make([]bool, len(s.node.keys))
	}
	for {
		if i == len(doc) || doc[i] != '"' {
			return notJSON
		}
		start := i
		var escaped bool
		if i, escaped = scanString(doc, i); i < 0 {
			return i
		}
		var member spot
		if wanted {
			member = walkKey(f, content(doc[start:i], escaped), s, seen)
		}
		if i = skipSpace(doc, i); i == len(doc) || doc[i] != ':' {
			return notJSON
		}
		if i = walkValue(f, doc, skipSpace(doc, i+1), member, depth); i < 0 {
			return i
		}
		var ended bool
		if i, ended = scanBetween(doc, i, '}'); ended {
			return i
		}
	}
}

// walkKey returns the spot of a key's value. seen has the keys of the node that have come before.
func walkKey(f *Found, key []byte, s spot, seen []bool) (member spot) {
	if s.take&Below != 0 {
		member = spot{keys: s.keys, take: s.keys(key)}
	}
	if s.node == nil {
		return member
	}
	for i, e := range s.node.keys {
		switch {
		case e.name != string(key):
		case !seen[i]:
			seen[i] = true
			return member.enter(e.to)
		case f.repeated == nil:
			f.repeated = fmt.Errorf("%w, on the path %s", ErrRepeatedKey, e.to.path)
		}
	}
	return member
}

func walkArray(f *Found, doc []byte, i int, s spot, depth int) int {
	if depth > MaxDepth {
		return tooDeep
	}
	if i = skipSpace(doc, i+1); i < len(doc) && doc[i] == ']' {
		return i + 1
	}
	every := spot{keys: s.keys, take: s.take &^ (URL | Word | Note)}
	switch {
	case s.take&List != 0:
		every.take |= URL
	case s.take&Words != 0:
		every.take |= Word
	}
	for index := 0; ; index++ {
		element := every
		if s.node != nil {
			if n := s.node.element(index); n != nil {
				element = every.enter(n)
			}
		}
		if i = walkValue(f, doc, i, element, depth); i < 0 {
			return i
		}
		var ended bool
		if i, ended = scanBetween(doc, i, ']'); ended {
			return i
		}
	}
}

// walkText reads a string: as the JSON in it, or else as a file.
func walkText(f *Found, quoted []byte, escaped bool, s spot) {
	holdsJSON := s.node != nil && s.node.text
	if !holdsJSON && s.take&(URL|Word|Note) == 0 {
		return
	}
	c := content(quoted, escaped)
	if holdsJSON {
		if inner := Inside(c); inner != nil {
			walk(inner, s, f)
			return
		}
	}
	if s.take&(URL|Word|Note) != 0 && isURL(c, s.take&Word == 0) {
		f.addURL(c, s.take&Note == 0)
	}
}

// IsDocument reports whether a text is JSON that may be read: in UTF-8, and no deeper than MaxDepth.
func IsDocument(text []byte) bool { return walk(text, spot{}, nil) >= 0 }

// Inside returns the document that a text holds, an object or an array in JSON; nil if it is none, or refused, as one that is
// nested deeper than MaxDepth is. All of it is checked before anything is taken from it.
func Inside(text []byte) []byte {
	i := skipSpace(text, 0)
	if i == len(text) || text[i] != '{' && text[i] != '[' {
		return nil
	}
	if !IsDocument(text) {
		return nil
	}
	return text
}

// content returns what a quoted string says.
func content(quoted []byte, escaped bool) []byte {
	if escaped {
		return unquote(quoted)
	}
	return quoted[1 : len(quoted)-1]
}

func unquote(quoted []byte) []byte {
	var s string
	_ = json.Unmarshal(quoted, &s) // it has been scanned
	return []byte(s)
}

// isURL reports whether s is an http or https URL that can be fetched once its raw spaces and non-ASCII are encoded.
func isURL(s []byte, spaces bool) bool {
	const scheme = "http"
	if len(s) < len(scheme) || !bytes.EqualFold(s[:len(scheme)], []byte(scheme)) {
		return false
	}
	rest := s[len(scheme):]
	if len(rest) > 0 && rest[0]|0x20 == 's' {
		rest = rest[1:]
	}
	if rest, ok := bytes.CutPrefix(rest, []byte("://")); !ok || len(rest) == 0 {
		return false
	}
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == ' ' && !spaces {
			return false
		}
	}
	return true
}
