package payload

import (
	"errors"
	"fmt"

	"github.com/tidwall/gjson"
)

// Why a body is refused. Each is one sentence for the sender.
var (
	ErrNotObject   = errors.New("the body is not a JSON object")
	ErrInvalidUTF8 = errors.New("the body is not valid UTF-8")
	ErrTooDeep     = fmt.Errorf("the body is nested deeper than %d levels", MaxDepth)
	// ErrRepeatedKey is wrapped with the path of the key.
	ErrRepeatedKey = errors.New("a key is repeated in its object")
)

// Wants lists what a Plan finds in a body. All paths are gjson paths, as CheckPath allows them.
type Wants struct {
	// Values are where single values may be. Found.Value has them by their place in this list.
	Values []string
	// Files are where files are named.
	Files []Files
	// Texts are where strings hold JSON themselves, in which other paths continue. They have keys and indexes only.
	Texts []string
}

// Files is where files are named. A file is an http or https URL, its scheme in any case.
type Files struct {
	Path string
	// Take selects what counts of the value at the path itself.
	Take Take
	// Keys returns what counts of the value of a key below the path. Take and Keys may have Below only if it is set.
	Keys func(key []byte) Take
}

// Take selects what counts as a file in a value.
type Take uint8

const (
	// URL selects a string, which may hold raw spaces.
	URL Take = 1 << iota
	// Word selects a string without white space, because a text may begin with a URL.
	Word
	// List selects the strings of an array and of the arrays in it, as URL does.
	List
	// Words selects the strings of an array and of the arrays in it, as Word does.
	Words
	// Below looks into objects, and into those in an array, by Files.Keys.
	Below
	// Note selects a string as URL does, but not as a file: as a URL by which two bodies differ.
	Note
)

// Plan is a compiled Wants, ready for any number of bodies. It is safe for concurrent use.
type Plan struct {
	root   *node
	slow   []slow
	places int // of values
}

// slow is a want that gjson has to find.
type slow struct {
	text  int // place of the text to search; -1: the body
	path  string
	value int   // place of the value
	files Files // instead of a value, if it has a path
}

// NewPlan returns a plan of the wants. An error is about one of Wants.Texts.
func NewPlan(w Wants) (*Plan, error) {
	p := &Plan{root: &node{}, places: len(w.Values)}
	for _, path := range w.Texts {
		n := p.root
		parts, rest := splitPath(path)
		for _, part := range parts {
			n = n.next(part, path)
			if part.each {
				rest = part.name
			}
		}
		if rest != "" {
			return nil, fmt.Errorf("gjson path %q: a text that holds JSON is named by keys and indexes alone", path)
		}
		if !n.text {
			n.text, n.values = true, []int{p.places}
			p.places++
		}
	}
	for i, path := range w.Values {
		if n := p.add(slow{text: -1, path: path, value: i}); n != nil {
			n.values = append(n.values, i)
		}
	}
	for _, f := range w.Files {
		if n := p.add(slow{text: -1, path: f.Path, files: f}); n != nil {
			n.files = f
		}
	}
	p.root.join()
	return p, nil
}

// add lays out a path as far as it is plain. It returns the node at its end, or nil where the want is left to gjson.
func (p *Plan) add(want slow) *node {
	n := p.root
	parts, rest := splitPath(want.path)
	plain := rest == ""
	whole := want.path
	for i, part := range parts {
		if n.text {
			want.text, want.path = n.values[0], part.path
		}
		n = n.next(part, whole)
		// gjson counts the elements of what ends with #, and makes one value of many.
		if part.odd || part.each && (want.files.Path == "" || i == len(parts)-1) {
			plain = false
		}
	}
	if !plain {
		if n.text && rest != "" {
			want.text, want.path = n.values[0], rest
		}
		p.slow = append(p.slow, want)
		return nil
	}
	return n
}

// Read checks that everybody reads the same from doc along the plan's paths, and finds what is wanted: doc must be JSON in
// valid UTF-8 with an object at its top, nested no deeper than MaxDepth, and no key of a path may stand twice in its
// object, since gjson takes the first of two where encoding/json takes the last. A path is followed through keys, indexes
// and #, and no further than its first query or wildcard. The error is or wraps one of ErrNotObject, ErrInvalidUTF8,
// ErrTooDeep and ErrRepeatedKey; after the last, found has the first of each repeated key. The values in found share
// the memory of doc.
func (p *Plan) Read(doc []byte, found *Found) error {
	if i := skipSpace(doc, 0); i == len(doc) || doc[i] != '{' {
		return ErrNotObject
	}
	return p.ReadAny(doc, found)
}

// ReadAny is Read for a doc that may have any JSON value at its top.
func (p *Plan) ReadAny(doc []byte, found *Found) error {
	if n := p.places - len(found.values); n > 0 {
		found.moreValues = make([]Value, n)
	}
	if err := refusal(walk(doc, spot{node: p.root}, found)); err != nil {
		return err
	}
	for _, want := range p.slow {
		find(want, doc, found)
	}
	return found.repeated
}

// find finds by gjson what is wanted, after the walk.
func find(want slow, doc []byte, found *Found) {
	if want.text >= 0 {
		if doc = found.Value(want.text).raw; len(doc) > 0 && doc[0] == '"' {
			doc = Inside(unquote(doc))
		}
	}
	v := gjson.GetBytes(doc, want.path)
	switch {
	case v.Type == gjson.Null:
	case want.files.Path == "":
		found.set(want.value, []byte(v.Raw))
	default:
		walk([]byte(v.Raw), spot{keys: want.files.Keys, take: want.files.Take}, found)
	}
}
