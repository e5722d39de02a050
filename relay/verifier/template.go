package verifier

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

// template is what a sender signs: literal text and placeholders in turn.
type template []piece

type piece struct {
	kind pieceKind
	text string // the literal text, or the header's name
}

type pieceKind string

const (
	literal   pieceKind = ""
	body      pieceKind = "{body}"
	timestamp pieceKind = "{timestamp}"
	taskID    pieceKind = "{task_id}"
	header    pieceKind = "{header."
)

func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		open := strings.IndexByte(s, '{')
		if open < 0 {
			open = len(s)
		}
		if open > 0 {
			t = append(t, piece{literal, s[:open]})
			s = s[open:]
			continue
		}
		end := strings.IndexByte(s, '}') + 1
		if end == 0 {
			return nil, fmt.Errorf("signed: %q has no closing brace", s)
		}
		p, err := parsePlaceholder(s[:end])
		if err != nil {
			return nil, err
		}
		t = append(t, p)
		s = s[end:]
	}
	return t, nil
}

func parsePlaceholder(s string) (piece, error) {
	switch kind := pieceKind(s); kind {
	case body, timestamp, taskID:
		return piece{kind: kind}, nil
	}
	if name, ok := strings.CutPrefix(s, string(header)); ok && name != "}" {
		return piece{header, http.CanonicalHeaderKey(strings.TrimSuffix(name, "}"))}, nil
	}
	return piece{}, fmt.Errorf("signed: unknown placeholder %s; there are {body}, {timestamp}, {task_id} and {header.<name>}", s)
}

func (t template) has(kind pieceKind) bool {
	for _, p := range t {
		if p.kind == kind {
			return true
		}
	}
	return false
}

// fill gives what the sender should have signed.
func (t template) fill(c *relay.Callback, at string) ([]byte, error) {
	if len(t) == 1 && t[0].kind == body {
		return c.Body, nil // which saves the copy of the usual case
	}
	var signed []byte
	for _, p := range t {
		switch p.kind {
		case literal:
			signed = append(signed, p.text...)
		case body:
			signed = append(signed, c.Body...)
		case timestamp:
			signed = append(signed, at...)
		case taskID:
			if c.TaskID == "" {
				return nil, errors.New("the body names no task")
			}
			signed = append(signed, c.TaskID...)
		case header:
			value, err := one(c.Header, p.text)
			if err != nil {
				return nil, err
			}
			signed = append(signed, value...)
		}
	}
	return signed, nil
}
