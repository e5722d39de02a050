package caddymodule

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// progressWait is how long a client may take to read a line of progress. One that does not read ends the work as one that has
// gone does: net/http ends the context of a request whose answer cannot be written.
const progressWait = 5 * time.Second

// withProgress serves an endpoint that handles many deliveries, with lines of progress for a client that asks for them.
func withProgress(serve endpoint) server {
	return func(w http.ResponseWriter, e *engine.Engine, r *http.Request) error {
		if !strings.Contains(r.Header.Get("Accept"), api.ProgressType) {
			return answers(serve)(w, e, r)
		}
		p := &progressWriter{ResponseWriter: w}
		v, err := serve(e, r.WithContext(engine.WithProgress(r.Context(), p.step)))
		if err != nil {
			writeError(p, r, err)
		} else {
			writeJSON(p, http.StatusOK, v)
		}
		return nil
	}
}

// progressWriter writes lines of progress before the answer, which then is the last line. An answer that no progress came
// before is written as it would be without it.
type progressWriter struct {
	http.ResponseWriter
	done  int
	begun bool
}

// step writes a line.
func (p *progressWriter) step(n int) {
	p.done += n
	if !p.begun {
		p.begun = true
		p.Header().Set("Content-Type", api.ProgressType)
		p.ResponseWriter.WriteHeader(http.StatusOK)
	}
	c := http.NewResponseController(p.ResponseWriter)
	_ = c.SetWriteDeadline(time.Now().Add(progressWait)) // a writer that knows none, as in tests, does not wait either
	if json.NewEncoder(p.ResponseWriter).Encode(api.Progress{Progress: p.done}) == nil {
		_ = c.Flush()
	}
	_ = c.SetWriteDeadline(time.Time{}) // the next step may take longer
}

// WriteHeader sends a status, unless there are lines already: then the last line says what it would have said.
func (p *progressWriter) WriteHeader(status int) {
	if !p.begun {
		p.ResponseWriter.WriteHeader(status)
	}
}
