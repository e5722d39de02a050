package caddymodule

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
)

// How long a client of the stream may take nothing before it is dropped. It reconnects with the id of the last event that
// it has got.
const (
	streamStalled = 10 * time.Second
	streamEnding  = time.Second // the same, when the app stops
)

// serveStream sends what happens as server-sent events, until the client goes or the app stops.
func serveStream(w http.ResponseWriter, e *engine.Engine, r *http.Request) error {
	q := parseQuery(r, "source", "since")
	if q.err != nil {
		return q.err
	}
	s := &sse{w: w, control: http.NewResponseController(w)}
	if r.Method == http.MethodHead {
		s.begin()
		return nil
	}
	app, err := shownApp()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s.ctx = ctx
	// A client that takes nothing must not hold up the stop either.
	defer context.AfterFunc(app.running, func() {
		cancel()
		_ = s.control.SetWriteDeadline(time.Now().Add(streamEnding))
	})()
	err = e.Stream(ctx, q.text("source"), cmp.Or(r.Header.Get("Last-Event-ID"), q.text("since")), s.send)
	switch {
	case s.begun || ctx.Err() != nil:
		return nil // it has the beginning of a stream, which has just ended
	case errors.Is(err, stream.ErrFull):
		return &apiError{http.StatusServiceUnavailable, "too_many_clients", "As many clients as may watch the stream do so already."}
	case errors.Is(err, engine.ErrBadSince):
		return badRequest("since: expected the id of an event.")
	}
	return err
}

// sse writes server-sent events. Blank lines end only what has data: the HTML standard has clients ignore other blocks, which some
// hand out as empty messages.
type sse struct {
	ctx     context.Context
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	buffer  bytes.Buffer
}

func (s *sse) begin() {
	s.begun = true
	header := s.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // for a proxy before the admin endpoint
	s.w.WriteHeader(http.StatusOK)
	s.buffer.WriteString("retry: 2000\n")
}

// send writes a batch, or a comment where there is none, to see whether the client is still there.
func (s *sse) send(batch []*stream.Entry) error {
	s.buffer.Reset()
	if !s.begun {
		s.begin()
	}
	for _, entry := range batch {
		s.buffer.Write(entry.Text(renderStream))
	}
	if len(batch) == 0 {
		s.buffer.WriteString(":\n")
	}
	if err := s.limit(time.Now().Add(streamStalled)); err != nil {
		return err
	}
	if _, err := s.w.Write(s.buffer.Bytes()); err != nil {
		return err
	}
	if err := s.control.Flush(); err != nil {
		return err
	}
	return s.limit(time.Time{}) // over HTTP/2 a stream ends with its deadline, even if nobody writes then
}

// limit sets the write deadline, which a writer that has none leaves to its client. It returns an error once the stream is to end:
// the deadline of that may be the one just set anew.
func (s *sse) limit(by time.Time) error {
	_ = s.control.SetWriteDeadline(by)
	if s.ctx.Err() != nil {
		_ = s.control.SetWriteDeadline(time.Now().Add(streamEnding))
	}
	return s.ctx.Err()
}

// renderStream writes an item as a server-sent event. Only an accepted event sets the id that a client resumes after: what
// becomes of its deliveries comes later, in any order. One that is earlier than where the client has been does not set it back.
func renderStream(i *stream.Item) []byte {
	e := api.StreamEvent{
		Type: string(i.Kind), EventID: i.EventID, Source: i.Source, TaskID: i.TaskID, Stage: i.Stage, Code: i.Code,
		Destination: i.Destination, Attempt: i.Attempt, Status: i.Status, Error: i.Error, DurationMS: i.Duration.Milliseconds(),
		Earlier: i.Earlier,
	}
	if !i.At.IsZero() {
		e.At = i.At.UTC()
	}
	if i.Kind == stream.Retrying && i.RetryIn > 0 {
		e.NextAttemptAt = cmp.Or(i.At, time.Now()).Add(i.RetryIn).UTC()
	}
	var text bytes.Buffer
	if i.Kind == stream.Accepted && !i.Earlier {
		text.WriteString("id: " + i.EventID + "\n")
	}
	text.WriteString("event: " + e.Type + "\ndata: ")
	data, _ := json.Marshal(e) // texts, numbers and times always marshal
	text.Write(data)
	text.WriteString("\n\n")
	return text.Bytes()
}
