package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Sample implements relay.Provider. What stands behind queries and wildcards is left out.
func (p *parser) Sample(taskID string, withFiles bool, opts relay.ReadOptions) (body []byte, header http.Header) {
	header = http.Header{"Content-Type": {"application/json"}}
	var doc any = map[string]any{}
	put := func(paths []string, value any) {
		if len(paths) > 0 {
			doc = set(doc, parts(paths[0]), value)
		}
	}
	files := p.sampleFiles
	if p.sample != "" {
		_ = json.Unmarshal([]byte(p.sample), &doc) // a constant
	} else if len(p.files) > 0 {
		files = []string{p.files[0].Path}
	}
	if withFiles {
		for i, path := range files {
			put([]string{path}, fmt.Sprintf("https://files.example.com/sample-%d.mp3", i+1))
		}
	}
	for _, path := range opts.Paths {
		put([]string{path}, "sample")
	}
	put(p.code, http.StatusOK)
	put(p.taskID, taskID)
	switch {
	case p.taskHeader != "":
		header.Set(p.taskHeader, taskID)
	case len(p.taskID) == 0:
		put([]string{"sample"}, taskID) // so that the body's hash, which is the id, is another one each time
	}
	if opts.Format != payload.Form {
		body, _ = json.Marshal(doc) // maps, lists and texts always marshal
		return body, header
	}
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	form := url.Values{}
	for name, value := range doc.(map[string]any) {
		switch value.(type) {
		case string, int:
			form.Set(name, fmt.Sprint(value))
		}
	}
	return []byte(form.Encode()), header
}

// parts splits a path at its dots, and takes the backslashes out.
func parts(path string) (parts []string) {
	var part strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '.':
			parts = append(parts, part.String())
			part.Reset()
			continue
		case c == '\\' && i+1 < len(path):
			i++
		}
		part.WriteByte(path[i])
	}
	return append(parts, part.String())
}

// mostElements bounds the lists of a sample.
const mostElements = 16

// set returns doc with a value at the path of the given parts, of which numbers and # are elements of lists.
func set(doc any, parts []string, value any) any {
	if len(parts) == 0 {
		return value
	}
	name, rest := parts[0], parts[1:]
	n, err := strconv.ParseUint(name, 10, 31)
	if object, ok := doc.(map[string]any); ok || name != "#" && (err != nil || n >= mostElements) {
		if object == nil {
			object = map[string]any{}
		}
		object[name] = set(object[name], rest, value)
		return object
	}
	list, _ := doc.([]any)
	for uint64(len(list)) <= n {
		list = append(list, nil)
	}
	list[n] = set(list[n], rest, value)
	return list
}
