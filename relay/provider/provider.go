// Package provider knows the shapes of the callbacks that a source may get. All of them are read by one parser, which
// is told where to look.
package provider

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Paths are gjson paths into a callback's body, as payload.CheckPath allows them.
type Paths struct {
	// TaskID is where the task's id may stand. Where several paths find one, all must find the same.
	TaskID []string
	// Stage and Code are where those may stand; the first path that finds one counts. Both may be absent from a body.
	Stage, Code []string
	// Files are where files are named: by a string, by an object's URLs (the strings of its keys that end in url or
	// Url, where they are http or https), or by arrays of those. All paths count.
	Files []string
}

// maxNamed bounds what a body that nobody has verified yet can make of memory: a file of one byte costs sixteen.
const maxNamed = 10_000

// family are the paths of the audio APIs behind suno and kie, which serve the same tasks with other field names.
var family = Paths{
	TaskID: []string{"data.task_id", "data.taskId"},
	Stage:  []string{"data.callbackType"},
	Code:   []string{"code"},
	Files:  []string{"data.vocal_removal_info", "data.vocal_separation_info", "data.data"},
}

// Suno reads the callbacks of sunoapi.org: vocal separation and music generation.
func Suno() relay.Provider { return newParser(family) }

// Kie reads the callbacks of kie.ai. It verifies nothing: that is what the verifier of the same name does.
func Kie() relay.Provider { return newParser(family) }

// Custom reads callbacks of any other sender. Paths.TaskID is required. A task id may be a string or, as senders of
// other kinds have it, an integer.
func Custom(p Paths) (relay.Provider, error) {
	if len(p.TaskID) == 0 {
		return nil, errors.New("a custom provider needs the gjson path of the task id")
	}
	parser := newParser(p)
	for _, path := range parser.all {
		if err := payload.CheckPath(path); err != nil {
			return nil, err
		}
	}
	parser.integerID = true
	return parser, nil
}

// parser reads a body where its paths say.
type parser struct {
	at        Paths
	all       []string
	integerID bool
}

func newParser(p Paths) *parser {
	return &parser{at: p, all: slices.Concat(p.TaskID, p.Stage, p.Code, p.Files)}
}

func (p *parser) Paths() []string { return p.all }

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
		case id != "" && id != payload.Text(v):
			return "", fmt.Errorf("the body names two tasks, at %s", strings.Join(p.at.TaskID, " and "))
		}
		if id = payload.Text(v); id == "" {
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
			return payload.Text(v), nil
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
