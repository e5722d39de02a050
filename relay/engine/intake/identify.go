package intake

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

const (
	// MaxFiles is how many of a callback's files are kept with its task. The fingerprint covers all of them.
	MaxFiles = 64
	// maxWord bounds task id, stage and code, in bytes: they stand in lists, headers and indexes.
	maxWord = 128
)

// Identity is what tells one callback of a source from another.
type Identity struct {
	relay.Task
	// Key is the SHA-256 of the JSON array of the dedupe fields' values, as strings.
	Key [32]byte
	// Fingerprint is the SHA-256 of the JSON array of code, stage and the sorted files.
	Fingerprint [32]byte
}

// Identify reads from a callback what it is about. It checks the body first (payload.CheckBody), so that body may be anything.
// The error says, for the sender, what is wrong. Where the task's id could be read all the same, the identity has it: a
// signature may cover it.
func Identify(src *relay.Source, body []byte, header http.Header) (Identity, error) {
	unclear := payload.CheckBody(body, src.Provider.Paths())
	if unclear != nil && !errors.Is(unclear, payload.ErrRepeatedKey) {
		return Identity{}, unclear
	}
	task, err := src.Provider.Identify(body)
	if err == nil {
		err = checkTask(&task)
	}
	var key [32]byte
	if err == nil {
		key, err = dedupeKey(src, &task, body, header)
	}
	if err = cmp.Or(unclear, err); err != nil {
		return Identity{Task: relay.Task{ID: task.ID}}, err
	}
	id := Identity{Task: task, Key: key, Fingerprint: fingerprint(&task)}
	id.Files = id.Files[:min(len(id.Files), MaxFiles)]
	return id, nil
}

func checkTask(t *relay.Task) error {
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

func dedupeKey(src *relay.Source, t *relay.Task, body []byte, header http.Header) ([32]byte, error) {
	fields := src.Dedupe
	if len(fields) == 0 {
		fields = relay.DefaultDedupe
	}
	var few [8]string // so that the usual key needs no slice of its own
	values := few[:0]
	for _, f := range fields {
		value, err := dedupeValue(f, t, body, header)
		if err != nil {
			return [32]byte{}, err
		}
		values = append(values, value)
	}
	return hash(values), nil
}

func dedupeValue(f relay.DedupeField, t *relay.Task, body []byte, header http.Header) (string, error) {
	switch f.Kind {
	case relay.DedupeTaskID:
		return t.ID, nil
	case relay.DedupeStage:
		return t.Stage, nil
	case relay.DedupeCode:
		return t.Code, nil
	case relay.DedupePath:
		if err := payload.CheckKeys(body, []string{f.Name}); err != nil {
			return "", err
		}
		v := gjson.GetBytes(body, f.Name)
		if v.Type == gjson.Null {
			return "", fmt.Errorf("the body has nothing at %s", f.Name)
		}
		return payload.Text(v), nil
	case relay.DedupeHeader:
		values := header.Values(f.Name)
		if len(values) == 0 {
			return "", fmt.Errorf("the header %s is missing", f.Name)
		}
		return strings.Join(values, ", "), nil
	}
	return "", errors.New("the source's dedupe key has an unknown field")
}

func fingerprint(t *relay.Task) [32]byte {
	var few [16]string
	values := append(few[:0], t.Code, t.Stage)
	values = append(values, t.Files...)
	slices.Sort(values[2:])
	return hash(values)
}

// hash is the SHA-256 of the JSON array of values. Stores keep the hashes, so its input must never change.
func hash(values []string) [32]byte {
	array, _ := json.Marshal(values) // strings always marshal
	return sha256.Sum256(array)
}
