package payload

import "strings"

// maxFound bounds what a body makes of memory before anyone has verified it.
const maxFound = 10_000

// Found holds what a Plan has found in one body. The zero value is ready for Plan.Read, which fills it once.
type Found struct {
	// The usual body needs no memory of its own.
	values     [12]Value
	moreValues []Value
	urls       [8]named
	moreURLs   []named
	files      int // named
	others     int // named
	repeated   error
}

type named struct {
	url  []byte
	file bool
}

// Value returns what was found at a path of Wants.Values.
func (f *Found) Value(place int) Value {
	if place < len(f.values) {
		return f.values[place]
	}
	if place -= len(f.values); place < len(f.moreValues) {
		return f.moreValues[place]
	}
	return Value{}
}

// set keeps the first value of a place.
func (f *Found) set(place int, raw []byte) {
	var v *Value
	if place < len(f.values) {
		v = &f.values[place]
	} else {
		v = &f.moreValues[place-len(f.values)]
	}
	if v.raw == nil {
		v.raw = raw
	}
}

// setAll keeps a value to which paths lead.
func (f *Found) setAll(n *node, raw []byte) {
	if n == nil {
		return
	}
	for _, place := range n.values {
		f.set(place, raw)
	}
}

func (f *Found) addURL(url []byte, file bool) {
	switch n := f.files + f.others; {
	case n < len(f.urls):
		f.urls[n] = named{url, file}
	case n < maxFound:
		f.moreURLs = append(f.moreURLs, named{url, file})
	}
	if file {
		f.files++
	} else {
		f.others++
	}
}

// Complete reports whether URLs returns all URLs that were found: 10,000 are kept.
func (f *Found) Complete() bool { return f.files+f.others <= maxFound }

// FilesTotal returns how many files the body names.
func (f *Found) FilesTotal() int { return f.files }

// URLs returns the files' URLs in the order of the body, and after them those that were noted and are no files.
func (f *Found) URLs() (urls []string, files int) {
	if f.files+f.others == 0 {
		return nil, 0
	}
	lists := [...][]named{f.urls[:min(f.files+f.others, len(f.urls))], f.moreURLs}
	size := 0
	for _, list := range lists {
		for _, n := range list {
			size += len(n.url)
		}
	}
	var all strings.Builder // of which each URL is a part, so that many take no more allocations than one
	all.Grow(size)
	urls = make([]string, 0, len(lists[0])+len(lists[1]))
	for _, file := range [...]bool{true, false} {
		for _, list := range lists {
			for _, n := range list {
				if n.file == file {
					start := all.Len()
					all.Write(n.url)
					urls = append(urls, all.String()[start:])
				}
			}
		}
		if file {
			files = len(urls)
		}
	}
	return urls, files
}
