// Package provider knows the shapes of the callbacks that a source may get. All of them are read by one parser, which
// is told where to look.
package provider

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// parser reads callbacks where it is told that something is.
type parser struct {
	taskID, stage, code []string // gjson paths
	taskHeader          string   // has the task's id; empty: a path does, or nothing
	files               []payload.Files
	texts               []string // paths of strings that hold JSON
	integerID           bool
	sample              string   // a callback without files as the sender would write it; empty: one is made of the paths
	sampleFiles         []string // paths of its files; those of a callback that is made are in files

	// plan is the one last used: a source always asks for the same.
	plan atomic.Pointer[plan]
}

type plan struct {
	*payload.Plan
	paths []string // the source's
}

// planFor returns the plan of a source that reads further paths. An error is about the texts.
func (p *parser) planFor(paths []string) (*payload.Plan, error) {
	if last := p.plan.Load(); last != nil && slices.Equal(last.paths, paths) {
		return last.Plan, nil
	}
	made, err := payload.NewPlan(payload.Wants{
		Values: slices.Concat(p.taskID, p.stage, p.code, paths),
		Files:  p.files,
		Texts:  p.texts,
	})
	if err != nil {
		return nil, err
	}
	p.plan.Store(&plan{made, slices.Clone(paths)})
	return made, nil
}

// Read implements relay.Provider.
func (p *parser) Read(body []byte, header http.Header, opts relay.ReadOptions) (r relay.Reading, err error) {
	var found payload.Found
	unclear := p.find(body, opts, &found)
	lenient := opts.Format == payload.Any
	switch {
	case unclear == nil:
	case lenient: // whatever comes is taken, and read only if everybody reads it alike
		found, unclear = payload.Found{}, nil
	case !errors.Is(unclear, payload.ErrRepeatedKey):
		return r, unclear
	}
	errs := [...]error{unclear, nil, nil, nil, nil}
	r.ID, errs[1] = p.id(&found, header)
	if lenient && (r.ID == "" || errs[1] != nil) {
		sum := sha256.Sum256(body)
		r.ID, errs[1] = hex.EncodeToString(sum[:]), nil
	}
	place := len(p.taskID)
	r.Stage, errs[2] = word(&found, place, p.stage, "stage")
	place += len(p.stage)
	r.Code, errs[3] = word(&found, place, p.code, "code")
	place += len(p.code)
	if lenient {
		errs[2], errs[3] = nil, nil
	}
	for i, path := range opts.Paths {
		v := found.Value(place + i)
		if !v.Present() {
			errs[4] = fmt.Errorf("the body has nothing at %s", path)
		}
		r.Values = append(r.Values, v.Text())
	}
	var files int
	r.URLs, files = found.URLs()
	r.Files, r.FilesTotal, r.Cut = r.URLs[:files:files], found.FilesTotal(), !found.Complete()
	return r, cmp.Or(errs[:]...)
}

func (p *parser) find(body []byte, opts relay.ReadOptions, found *payload.Found) error {
	wants, err := p.planFor(opts.Paths)
	if err != nil {
		return err
	}
	doc, err := payload.Document(opts.Format, body)
	if err != nil {
		return err
	}
	if opts.Format == payload.Any {
		return wants.ReadAny(doc, found)
	}
	return wants.Read(doc, found)
}

func (p *parser) id(found *payload.Found, header http.Header) (id string, err error) {
	if p.taskHeader != "" {
		values := slices.Compact(slices.Clone(header.Values(p.taskHeader)))
		switch {
		case len(values) == 0 || values[0] == "":
			return "", fmt.Errorf("the header %s, which has the task id, is missing", p.taskHeader)
		case len(values) > 1:
			return "", fmt.Errorf("the header %s names two tasks", p.taskHeader)
		}
		return values[0], nil
	}
	if len(p.taskID) == 0 {
		return "", errors.New("the source names no task id; expected it to, or to take any body")
	}
	for i, path := range p.taskID {
		v := found.Value(i)
		if v.Present() && !v.IsString() && (!p.integerID || !v.IsNumber()) {
			return "", fmt.Errorf("the task id at %s is not a string", path)
		}
		switch text := v.Text(); {
		case text == "" || text == id: // an empty one names nothing
		case id == "":
			id = text
		default:
			return "", fmt.Errorf("the body names two tasks, at %s", strings.Join(p.taskID, " and "))
		}
	}
	if id == "" {
		return "", fmt.Errorf("the body has no task id at %s", strings.Join(p.taskID, " or "))
	}
	return id, nil
}

// words are the usual stages and codes, so that they need no memory of their own.
var words = func() map[string]string {
	m := make(map[string]string)
	for w := range strings.FieldsSeq("text first complete error success fail wait_validating 200 400 408 413 422 451 500 501 531") {
		m[w] = w
	}
	return m
}()

// word returns the text at the first of the paths that has any, and nothing if none has.
func word(found *payload.Found, place int, paths []string, name string) (string, error) {
	for i, path := range paths {
		switch v := found.Value(place + i); {
		case v.IsNested():
			return "", fmt.Errorf("the %s at %s is an object or array", name, path)
		case len(v.Bytes()) > 0:
			if w, ok := words[string(v.Bytes())]; ok {
				return w, nil
			}
			return v.Text(), nil
		}
	}
	return "", nil
}

// namesURL reports whether a key says that its value is a URL.
func namesURL(key []byte) bool {
	return bytes.HasSuffix(key, []byte("url")) || bytes.HasSuffix(key, []byte("Url"))
}

// namesURLs is namesURL for one URL or several.
func namesURLs(key []byte) bool { return namesURL(bytes.TrimSuffix(key, []byte("s"))) }

// anywhere selects every URL below.
func anywhere(key []byte) payload.Take {
	if namesURLs(key) {
		return payload.URL | payload.List | payload.Below
	}
	return payload.Word | payload.Words | payload.Below
}
