package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Whoever sends a callback chooses all that a search meets, so each step of it is bounded, and all steps together are
// linear in the size of the body.
const (
	maxTexts  = 3    // how deep strings that hold JSON may be in each other
	maxProbes = 256  // how many places of repeated URLs are told apart
	maxPlaces = 4096 // how many places of URLs are looked at
	maxPath   = 1024 // how long the path of a place may be, in bytes
)

// place is where a body names a file.
type place struct {
	field      string // a gjson path; one that leads through a string goes on in the JSON that it holds
	url        string
	start, end int // of the URL in the body, as it is written there
}

// isOf reports whether the file is of this place.
func (p place) isOf(f relay.File) bool { return f.Field == p.field && f.URL == p.url }

// findPlaces returns the places of the files that read finds in a body, in their order. more is how many files the body
// names beside them, at places past a limit. An error is of ctx; more counts all files then.
func findPlaces(ctx context.Context, body []byte, format payload.Format, read func([]byte) relay.Reading) (places []place, more int, err error) {
	reading := read(body)
	if len(reading.Files) == 0 {
		return nil, 0, nil
	}
	s := search{wanted: make(map[string]int, len(reading.Files)), found: map[string]int{}}
	for _, u := range reading.Files {
		s.wanted[u]++
	}
	if format == payload.Form {
		s.form(body)
	} else {
		doc := bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
		s.document(ctx, doc, &origin{start: len(body) - len(doc)}, 0)
	}
	files := 0
	for u, n := range s.found {
		files += min(n, s.wanted[u])
	}
	probes := 0
	places = slices.DeleteFunc(s.places, func(p place) bool {
		if s.found[p.url] <= s.wanted[p.url] {
			return false
		}
		// The URL is also where it names no file, as in an echo of the request. There it can be missing without a change.
		if probes++; probes <= maxProbes && ctx.Err() == nil {
			without := slices.Concat(body[:p.start], body[p.end:])
			if read(without).FilesTotal < reading.FilesTotal {
				return false
			}
		}
		s.found[p.url]--
		return true
	})
	if ctx.Err() != nil {
		return nil, len(reading.Files), context.Cause(ctx)
	}
	return places, max(0, files-len(places)), nil
}

// search collects the places of URLs.
type search struct {
	wanted map[string]int // how often each URL is a file
	found  map[string]int // how often each of them is in the body
	looked int            // how many places have been looked at
	places []place
	stack  []level // of the objects and arrays that the search is in, through the strings that hold them
}

// level is an object or array that the search is in.
type level struct {
	object, keyed bool
	key           string
	index         int
}

// document searches a JSON document for strings that are wanted URLs. What a provider does not read, because it is no JSON or
// nested too deep, names no file.
func (s *search) document(ctx context.Context, doc []byte, from *origin, texts int) {
	if payload.Inside(doc) == nil {
		return
	}
	outer := len(s.stack)
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	before := 0 // where the token before this one ended
	for ctx.Err() == nil {
		token, err := d.Token()
		if err != nil {
			return // io.EOF
		}
		end := int(d.InputOffset())
		switch token := token.(type) {
		case json.Delim:
			if token == '{' || token == '[' {
				s.stack = append(s.stack, level{object: token == '{'})
			} else {
				s.stack = s.stack[:len(s.stack)-1]
				s.step(outer)
			}
		case string:
			if l := &s.stack[len(s.stack)-1]; l.object && !l.keyed {
				l.key, l.keyed = token, true
				break
			}
			start := before + bytes.IndexByte(doc[before:end], '"') + 1
			s.text(ctx, token, doc[start:end-1], start, from, texts)
			s.step(outer)
		default:
			s.step(outer)
		}
		before = end
	}
}

// text looks at one string of a document, which is written there from start on.
func (s *search) text(ctx context.Context, text string, written []byte, start int, from *origin, texts int) {
	switch {
	case s.wanted[text] > 0:
		s.add(text, from, start, start+len(written))
	case texts < maxTexts:
		s.document(ctx, []byte(text), &origin{outer: from, start: start, written: written}, texts+1)
	}
}

// add counts a place of a wanted URL where the search is, and keeps it unless it is past a limit.
func (s *search) add(text string, from *origin, start, end int) {
	s.found[text]++
	if s.looked == maxPlaces {
		return
	}
	s.looked++
	if path, ok := s.path(); ok {
		s.places = append(s.places, place{field: path, url: text, start: from.at(start), end: from.at(end)})
	}
}

// path returns where the search is; ok is false if that is longer than maxPath.
func (s *search) path() (path string, ok bool) {
	var b []byte
	for i, l := range s.stack {
		if i > 0 {
			b = append(b, '.')
		}
		if len(b)+len(l.key) > maxPath {
			return "", false
		}
		if l.object {
			b = append(b, gjson.Escape(l.key)...)
		} else {
			b = strconv.AppendInt(b, int64(l.index), 10)
		}
	}
	return string(b), len(b) <= maxPath
}

// step goes on to the next member or element, unless the document that began below outer levels is at its end.
func (s *search) step(outer int) {
	if len(s.stack) > outer {
		l := &s.stack[len(s.stack)-1]
		l.keyed = false
		l.index++
	}
}

// form searches the fields of a form.
func (s *search) form(body []byte) {
	start := 0
	for field := range bytes.SplitSeq(bytes.TrimRight(body, "\r\n"), []byte("&")) {
		name, value, _ := bytes.Cut(field, []byte("="))
		text, err := url.QueryUnescape(string(value))
		if err == nil && s.wanted[text] > 0 {
			key, _ := url.QueryUnescape(string(name))
			s.stack = []level{{object: true, key: key}}
			end := start + len(field)
			s.add(text, &origin{}, end-len(value), end)
		}
		start += len(field) + 1
	}
}
