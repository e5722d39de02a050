package provider

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// TaskHeader begins an entry of Paths.TaskID that names a request header.
const TaskHeader = "header:"

// Paths name where a custom provider's callbacks have what is read from them: gjson paths into the body, as
// payload.CheckPath allows them.
type Paths struct {
	// TaskID is where the task's id may be. Where several paths find one, all must find the same. One entry
	// header:<name>, instead of paths, names a request header. It may be empty for a source whose Body is payload.Any,
	// where the hash of the body is the id; of any other body, none is read then.
	TaskID []string
	// Stage and Code are where those may be; the first path that finds one counts. Both may be absent from a body.
	Stage, Code []string
	// Files are where files are named: by a string, by an object's URLs (the strings of its keys that end in url or
	// Url), or by arrays of those. A file is an http or https URL. All paths count.
	Files []string
	// FilesUnder are below where every http or https URL is a file, at any depth.
	FilesUnder []string
	// JSONText are strings that hold JSON themselves, in which the other paths continue. They have keys and indexes only.
	// A text that is no JSON has nothing in it.
	JSONText []string
}

// Custom reads callbacks of any other sender. A task id may be a string or, as senders of
// other kinds have it, a number.
func Custom(p Paths) (relay.Provider, error) {
	c := &parser{taskID: p.TaskID, stage: p.Stage, code: p.Code, texts: p.JSONText, integerID: true}
	if len(p.TaskID) == 1 {
		if name, ok := strings.CutPrefix(p.TaskID[0], TaskHeader); ok {
			if !httpguts.ValidHeaderFieldName(name) {
				return nil, fmt.Errorf("expected header:<name>, got %q", p.TaskID[0])
			}
			c.taskID, c.taskHeader = nil, name
		}
	}
	for _, path := range slices.Concat(c.taskID, p.Stage, p.Code, p.Files, p.FilesUnder, p.JSONText) {
		if strings.HasPrefix(path, TaskHeader) {
			return nil, fmt.Errorf("%s: a header has the task id alone, instead of all paths", path)
		}
		if err := payload.CheckPath(path); err != nil {
			return nil, err
		}
	}
	for _, path := range p.Files {
		c.files = append(c.files, payload.Files{Path: path, Take: payload.URL | payload.List | payload.Below, Keys: urlKey})
	}
	for _, path := range p.FilesUnder {
		c.files = append(c.files, payload.Files{Path: path, Take: anywhere([]byte(path)), Keys: anywhere})
	}
	if _, err := c.planFor(nil); err != nil {
		return nil, fmt.Errorf("json_text: %w", err)
	}
	return c, nil
}

// urlKey returns what counts of an object at one of Paths.Files.
func urlKey(key []byte) payload.Take {
	if namesURL(key) {
		return payload.URL
	}
	return 0
}
