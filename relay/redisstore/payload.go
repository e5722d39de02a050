package redisstore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
)

// A payload is an event as it was accepted: the length of its task id, a space, the task id, the JSON of meta and a newline,
// the JSON of its headers and a newline, and its body. It never changes.

// payloadBegins is how much of a payload a list reads at first. Few tasks and stages have ids so long that it is not enough.
const payloadBegins = 512

// encodePayload returns the payload of an event.
func encodePayload(e *relay.Event, waiters string) []byte {
	headers := e.EncodedHeaders()
	b := make([]byte, 0, 200+len(e.TaskID)+len(e.Stage)+len(e.Code)+len(waiters)+len(headers)+len(e.Body))
	b = append(append(beginPayload(b, e, waiters), headers...), '\n')
	return append(b, e.Body...)
}

// beginPayload appends what comes before the headers.
func beginPayload(b []byte, e *relay.Event, waiters string) []byte {
	b = append(strconv.AppendInt(b, int64(len(e.TaskID)), 10), ' ')
	return append(appendMeta(append(b, e.TaskID...), e, waiters), '\n')
}

// encodeMark returns what accept.lua remembers of an event: its key, and what stands for that.
func encodeMark(e *relay.Event) []byte {
	b := make([]byte, 0, len(e.Key)+len(e.Fingerprint)+len(e.ID))
	return append(append(append(b, e.Key[:]...), e.Fingerprint[:]...), e.ID...)
}

// decodeBeginning reads what comes before the headers, and returns the rest. ok is false if it is not all there.
func decodeBeginning(text string, e *relay.Event) (waiters, rest string, ok bool, err error) {
	length, text, ok := strings.Cut(text, " ")
	n, err := strconv.Atoi(length)
	if !ok || err != nil || n < 0 {
		return "", "", false, fmt.Errorf("event %s: unreadable payload: %.100q", e.ID, length)
	}
	if len(text) < n {
		return "", "", false, nil
	}
	task, text := text[:n], text[n:]
	text, rest, ok = strings.Cut(text, "\n")
	if !ok {
		return "", "", false, nil
	}
	e.TaskID = task
	waiters, err = decodeMeta(text, e)
	return waiters, rest, true, err
}

// decodePayload returns the event of a payload.
func decodePayload(source, id, text string) (e *relay.Event, waiters string, err error) {
	e = &relay.Event{ID: id, Source: source}
	waiters, rest, ok, err := decodeBeginning(text, e)
	if err != nil {
		return nil, "", err
	}
	headers, body, found := strings.Cut(rest, "\n")
	if !ok || !found {
		return nil, "", fmt.Errorf("event %s: its payload is cut", id)
	}
	e.Body = []byte(body)
	if e.Headers, err = relay.DecodeHeaders([]byte(headers)); err != nil {
		return nil, "", fmt.Errorf("event %s: %w", id, err)
	}
	return e, waiters, nil
}
