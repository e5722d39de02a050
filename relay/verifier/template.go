package verifier

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/callbackrelay/caddy-relay/relay"
)

// template describes the text that a sender signs: literal text and placeholders in turn.
type template []piece

type piece struct {
	kind pieceKind
	text string // the literal text, or the header's name
}

type pieceKind string

const (
	literal   pieceKind = ""
	body      pieceKind = "{body}"
	bodySum   pieceKind = "{body_sha256}"
	timestamp pieceKind = "{timestamp}"
	taskID    pieceKind = "{task_id}"
	header    pieceKind = "{header."
)

func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		plain := strings.IndexAny(s, `{\`)
		if plain < 0 {
			plain = len(s)
		}
		var p piece
		var err error
		switch {
		case plain > 0:
			p = piece{literal, s[:plain]}
			s = s[plain:]
		case s[0] == '\\':
			p, s, err = parseEscape(s)
		default:
			p, s, err = parsePlaceholder(s)
		}
		if err != nil {
			return nil, err
		}
		t = append(t, p)
	}
	return t, nil
}

// parseEscape reads what begins with a backslash. A Caddyfile cannot write a line break within a word.
func parseEscape(s string) (_ piece, rest string, err error) {
	switch {
	case strings.HasPrefix(s, `\n`):
		return piece{literal, "\n"}, s[2:], nil
	case strings.HasPrefix(s, `\\`):
		return piece{literal, `\`}, s[2:], nil
	}
	return piece{}, "", fmt.Errorf(`signed: expected \n or \\ at %q`, s)
}

func parsePlaceholder(s string) (_ piece, rest string, err error) {
	end := strings.IndexByte(s, '}') + 1
	if end == 0 {
		return piece{}, "", fmt.Errorf("signed: %q has no closing brace", s)
	}
	s, rest = s[:end], s[end:]
	switch kind := pieceKind(s); kind {
	case body, bodySum, timestamp, taskID:
		return piece{kind: kind}, rest, nil
	}
	if name, ok := strings.CutPrefix(s[:end-1], string(header)); ok && httpguts.ValidHeaderFieldName(name) {
		return piece{header, http.CanonicalHeaderKey(name)}, rest, nil
	}
	return piece{}, "", fmt.Errorf("signed: unknown placeholder %s; expected {body}, {body_sha256}, {timestamp}, {task_id} or {header.<name>}", s)
}

func (t template) has(kind pieceKind) bool {
	for _, p := range t {
		if p.kind == kind {
			return true
		}
	}
	return false
}

// headers are the names of the headers that t holds.
func (t template) headers() (names []string) {
	for _, p := range t {
		if p.kind == header {
			names = append(names, p.text)
		}
	}
	return names
}

// fill returns what the sender should have signed.
func (t template) fill(c *relay.Callback, at string) ([]byte, error) {
	if len(t) == 1 && t[0].kind == body {
		return c.Body, nil // which saves the copy of the usual case
	}
	room := 256
	if t.has(body) {
		room += len(c.Body)
	}
	signed := make([]byte, 0, room)
	for _, p := range t {
		switch p.kind {
		case literal:
			signed = append(signed, p.text...)
		case body:
			signed = append(signed, c.Body...)
		case bodySum:
			sum := sha256.Sum256(c.Body)
			signed = hex.AppendEncode(signed, sum[:])
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
