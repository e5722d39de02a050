package caddymodule

import (
	"bytes"
	"maps"
	"net/http"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// maxAnswer is how much of an answer is held back and read, in bytes. A larger one passes unread.
const maxAnswer = 64 << 10

// heldAnswer holds an answer back until it has been read, if it may name a task: a short one of success, with an object. Any
// other passes as it comes.
type heldAnswer struct {
	http.ResponseWriter
	encoded func()            // is called for an answer that cannot be read
	read    func(body []byte) // is called with an answer that was held back as a whole

	status  int // 0 until the final one is known
	holding bool
	header  http.Header // as it was with the status: what is set later is a trailer
	body    []byte
	flushed bool // while it was held back
}

// WriteHeader decides whether the answer is held back. Informational answers pass, and so does a change of the protocol.
func (a *heldAnswer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	if status < 200 {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.status = status
	if a.mayNameTask() {
		a.holding, a.header = true, a.Header().Clone()
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *heldAnswer) mayNameTask() bool {
	h := a.Header()
	if a.status > 299 || a.status == http.StatusNoContent || a.status == http.StatusResetContent {
		return false
	}
	// Some servers send JSON as a text, or without a type.
	if t := payload.MediaType(h.Get("Content-Type")); t != "" && t != "text/plain" && !payload.IsJSON(t) {
		return false
	}
	if e := h.Get("Content-Encoding"); e != "" && e != "identity" {
		a.encoded()
		return false
	}
	length, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	return err != nil || length <= maxAnswer
}

// Write holds p back, or passes it on.
func (a *heldAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK) // unless there is a status
	if a.holding && len(a.body)+len(p) > maxAnswer {
		a.release()
	}
	if !a.holding {
		return a.ResponseWriter.Write(p)
	}
	a.body = append(a.body, p...)
	if text := bytes.TrimLeft(a.body, "\ufeff \t\r\n"); len(text) > 0 && text[0] != '{' {
		a.release() // a stream of text must not wait
	}
	return len(p), nil
}

// FlushError flushes what is not held back.
func (a *heldAnswer) FlushError() error {
	a.WriteHeader(http.StatusOK) // unless there is a status
	if a.holding {
		a.flushed = true
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush is FlushError for those who know http.Flusher alone.
func (a *heldAnswer) Flush() { _ = a.FlushError() }

// Unwrap returns the writer below, which http.ResponseController asks for all else.
func (a *heldAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// finish reads the answer that is held back, if it is, and passes it on.
func (a *heldAnswer) finish() {
	if a.holding {
		a.read(a.body)
		a.release()
	}
}

// release passes on what has been held back. That the application does not take it shows at the next write, if there is any.
func (a *heldAnswer) release() {
	a.holding = false
	h := a.Header()
	trailers := maps.Clone(h)
	clear(h)
	maps.Copy(h, a.header)
	a.ResponseWriter.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = a.ResponseWriter.Write(a.body) //nolint:gosec // the answer is the provider's, and passes as it is
		a.body = nil
	}
	clear(h)
	maps.Copy(h, trailers)
	if a.flushed {
		_ = a.FlushError()
	}
}

// Interface guards
var (
	_ http.ResponseWriter = (*heldAnswer)(nil)
	_ http.Flusher        = (*heldAnswer)(nil)
)
