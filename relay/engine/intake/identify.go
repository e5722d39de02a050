package intake

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

const (
	// MaxFiles is how many of a callback's files are kept with its task. The fingerprint covers all of them.
	MaxFiles = 256
	// maxWord bounds task id, stage and code, in bytes: they appear in lists, headers and indexes.
	maxWord = 128
)

// Identity distinguishes the callbacks of a source.
type Identity struct {
	relay.Task
	// Key is the SHA-256 of the JSON array of the dedupe fields' values, as strings.
	Key [32]byte
	// Fingerprint is the SHA-256 of the JSON array of code, stage and the sorted URLs, so that two callbacks of one key
	// have the same only if they say the same (2). Without a URL, or with more than were read, it is of the hex SHA-256 of
	// the body, too.
	Fingerprint [32]byte
}

// event returns the event of a callback, for which it makes an id.
func (id *Identity) event(src *relay.Source, origin relay.Origin, at time.Time, headers relay.Headers, body []byte) *relay.Event {
	return &relay.Event{
		ID: NewID(at), Source: src.Name,
		TaskID: id.ID, Stage: id.Stage, Code: id.Code, Key: id.Key, Fingerprint: id.Fingerprint,
		Origin: origin, ReceivedAt: at, Headers: headers, Body: body,
	}
}

// Identify reads from a callback what it is about; body may be anything. The error names, for the sender, what is wrong.
// Where the task's id could be read all the same, the identity has it: a signature may cover it.
func Identify(src *relay.Source, body []byte, header http.Header) (Identity, error) {
	r, err := src.Provider.Read(body, header, relay.ReadOptions{Format: src.Body, Paths: dedupePaths(src.Dedupe)})
	if err == nil {
		err = checkTask(&r.Task, src.Body)
	}
	var key [32]byte
	if err == nil {
		key, err = dedupeKey(src.Dedupe, &r, header)
	}
	if err != nil {
		return Identity{Task: relay.Task{ID: r.ID}}, err
	}
	id := Identity{Task: r.Task, Key: key, Fingerprint: fingerprint(&r, body)}
	id.Files = id.Files[:min(len(id.Files), MaxFiles)]
	return id, nil
}

// Files returns the files that a body names, MaxFiles of them at most, and how many there are, even if the body would not
// be accepted.
func Files(src *relay.Source, body []byte) (files []string, total int) {
	r, _ := src.Provider.Read(body, nil, relay.ReadOptions{Format: src.Body})
	return r.Files[:min(len(r.Files), MaxFiles)], r.FilesTotal
}

func checkTask(t *relay.Task, format payload.Format) error {
	if format == payload.Any { // what it says by chance is no reason to refuse it
		t.Stage, t.Code = word(t.Stage), word(t.Code)
	}
	switch {
	case !isTaskID(t.ID):
		return fmt.Errorf("the task id is not 1 to %d of the characters A-Z a-z 0-9 . _ : -", maxWord)
	case len(t.Stage) > maxWord:
		return fmt.Errorf("the stage is longer than %d bytes", maxWord)
	case len(t.Code) > maxWord:
		return fmt.Errorf("the code is longer than %d bytes", maxWord)
	}
	return nil
}

// word returns s unless it is too long.
func word(s string) string {
	if len(s) > maxWord {
		return ""
	}
	return s
}

func isTaskID(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		if !letter && !digit && c != '.' && c != '_' && c != ':' && c != '-' {
			return false
		}
	}
	return 0 < len(s) && len(s) <= maxWord
}

// dedupePaths returns the paths of a key's fields, in their order.
func dedupePaths(fields []relay.DedupeField) (paths []string) {
	for _, f := range fields {
		if f.Kind == relay.DedupePath {
			paths = append(paths, f.Name)
		}
	}
	return paths
}

func dedupeKey(fields []relay.DedupeField, r *relay.Reading, header http.Header) ([32]byte, error) {
	if len(fields) == 0 {
		fields = relay.DefaultDedupe
	}
	var few [8]string // so that the usual key needs no slice of its own
	values := few[:0]
	paths := 0
	for _, f := range fields {
		var value string
		switch f.Kind {
		case relay.DedupeTaskID:
			value = r.ID
		case relay.DedupeStage:
			value = r.Stage
		case relay.DedupeCode:
			value = r.Code
		case relay.DedupePath:
			value = r.Values[paths]
			paths++
		case relay.DedupeHeader:
			list := header.Values(f.Name)
			if len(list) == 0 {
				return [32]byte{}, fmt.Errorf("the header %s is missing", f.Name)
			}
			value = strings.Join(list, ", ")
		default:
			return [32]byte{}, errors.New("the source's dedupe key has an unknown field")
		}
		values = append(values, value)
	}
	return hash(values), nil
}

func fingerprint(r *relay.Reading, body []byte) [32]byte {
	var few [20]string
	values := append(few[:0], r.Code, r.Stage)
	values = append(values, r.URLs...)
	slices.Sort(values[2:])
	if len(r.URLs) == 0 || r.Cut {
		sum := sha256.Sum256(body)
		values = append(values, hex.EncodeToString(sum[:]))
	}
	return hash(values)
}

// hash returns the SHA-256 of the JSON array of values, as encoding/json writes it. Stores keep the hashes, so its input
// must never change.
func hash(values []string) [32]byte {
	var few [2048]byte // so that the usual array needs no memory of its own
	array := append(few[:0], '[')
	for i, v := range values {
		if i > 0 {
			array = append(array, ',')
		}
		array = payload.AppendQuoted(array, v)
	}
	return sha256.Sum256(append(array, ']'))
}
