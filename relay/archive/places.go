package archive

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

const (
	maxTexts  = 3   // how deep strings that hold JSON may be in each other
	maxProbes = 256 // how many places of repeated URLs are told apart
)

// place is where a body names a file.
type place struct {
	field      string // a gjson path; one that leads through a string goes on in the JSON that it holds
	url        string
	start, end int // of the URL in the body, as it is written there
}

// isOf reports whether the file is of this place.
func (p place) isOf(f relay.File) bool { return f.Field == p.field && f.URL == p.url }

// findPlaces returns the places of the files that read finds in a body, in their order.
func findPlaces(body []byte, format payload.Format, read func([]byte) relay.Reading) []place {
	reading := read(body)
	wanted := make(map[string]int, len(reading.Files)) // how often each URL is a file
	for _, u := range reading.Files {
		wanted[u]++
	}
	if len(wanted) == 0 {
		return nil
	}
	s := search{wanted: wanted}
	if format == payload.Form {
		s.form(body)
	} else {
		bom := len(body) - len(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
		s.document(body[bom:], bom, "", 0, func(i int) int { return i })
	}
	found := map[string]int{}
	for _, p := range s.places {
		found[p.url]++
	}
	probes := 0
	return slices.DeleteFunc(s.places, func(p place) bool {
		if found[p.url] <= wanted[p.url] {
			return false
		}
		// The URL is also where it names no file, as in an echo of the request. There it can be missing without a change.
		if probes++; probes <= maxProbes {
			without := slices.Concat(body[:p.start], body[p.end:])
			if read(without).FilesTotal < reading.FilesTotal {
				return false
			}
		}
		found[p.url]--
		return true
	})
}

// search collects the places of URLs.
type search struct {
	wanted map[string]int
	places []place
}

// document searches a JSON document for strings that are wanted URLs. at converts an index of what holds the document into
// one of the body; the document begins at offset there.
func (s *search) document(doc []byte, offset int, path string, texts int, at func(int) int) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var stack []level
	before := 0 // where the token before this one ended
	for {
		token, err := d.Token()
		if err != nil {
			return // io.EOF, or no JSON, in which nothing is a file
		}
		end := int(d.InputOffset())
		if delim, ok := token.(json.Delim); ok {
			switch delim {
			case '{', '[':
				stack = append(stack, level{object: delim == '{', path: s.enter(stack, path)})
			default:
				stack = stack[:len(stack)-1]
				step(stack)
			}
			before = end
			continue
		}
		text, isText := token.(string)
		if n := len(stack); n > 0 && stack[n-1].object && !stack[n-1].keyed {
			stack[n-1].key, stack[n-1].keyed = text, true
			before = end
			continue
		}
		if isText && strings.Contains(text, "://") || isText && texts < maxTexts && strings.Contains(text, `:\/\/`) {
			start := before + bytes.IndexByte(doc[before:end], '"')
			s.text(doc, start, end, offset, text, s.enter(stack, path), texts, at)
		}
		step(stack)
		before = end
	}
}

// text looks at one string of a document, which is doc[start:end] with its quotes.
func (s *search) text(doc []byte, start, end, offset int, text, path string, texts int, at func(int) int) {
	if s.wanted[text] > 0 {
		s.places = append(s.places, place{field: path, url: text, start: at(offset + start + 1), end: at(offset + end - 1)})
		return
	}
	trimmed := strings.TrimLeft(text, " \t\r\n")
	if texts == maxTexts || trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return
	}
	quoted := doc[start:end]
	s.document([]byte(text), 0, path, texts+1, func(i int) int { return at(offset + start + rawIndex(quoted, i)) })
}

// level is an object or array that the search is in.
type level struct {
	object, keyed bool
	key           string
	index         int
	path          string // of the object or array
}

// enter returns the path of the value that comes next.
func (s *search) enter(stack []level, path string) string {
	if len(stack) == 0 {
		return path
	}
	l := stack[len(stack)-1]
	part := strconv.Itoa(l.index)
	if l.object {
		part = gjson.Escape(l.key)
	}
	if l.path == "" {
		return part
	}
	return l.path + "." + part
}

// step goes on to the next member or element.
func step(stack []level) {
	if len(stack) > 0 {
		l := &stack[len(stack)-1]
		l.keyed = false
		l.index++
	}
}

// rawIndex returns where, in a quoted JSON string, the byte i of what it says is written.
func rawIndex(quoted []byte, i int) int {
	raw := 1
	for said := 0; said < i && raw < len(quoted)-1; {
		if quoted[raw] != '\\' {
			said, raw = said+1, raw+1
			continue
		}
		n := 2
		if quoted[raw+1] == 'u' {
			n = 6
			if low, high := quoted[raw:], quoted[min(raw+6, len(quoted)):]; isSurrogate(low, '8', 'b') && isSurrogate(high, 'c', 'f') {
				n = 12
			}
		}
		var text string
		_ = json.Unmarshal(slices.Concat([]byte{'"'}, quoted[raw:raw+n], []byte{'"'}), &text) // it has been read before
		said, raw = said+len(text), raw+n
	}
	return raw
}

// isSurrogate reports whether b begins with an escaped UTF-16 surrogate, of which the third digit lies in a range.
func isSurrogate(b []byte, from, to byte) bool {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' || b[2]|0x20 != 'd' {
		return false
	}
	c := b[3]
	if c >= 'A' {
		c |= 0x20
	}
	return from <= c && c <= to
}

// form searches the fields of a form.
func (s *search) form(body []byte) {
	start := 0
	for field := range bytes.SplitSeq(bytes.TrimRight(body, "\r\n"), []byte("&")) {
		name, value, _ := bytes.Cut(field, []byte("="))
		text, err := url.QueryUnescape(string(value))
		if err == nil && s.wanted[text] > 0 {
			key, _ := url.QueryUnescape(string(name))
			end := start + len(field)
			s.places = append(s.places, place{field: gjson.Escape(key), url: text, start: end - len(value), end: end})
		}
		start += len(field) + 1
	}
}
