package caddymodule

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// progressWait is how long a client may take to read a line of progress. One that does not read must not stop the work.
const progressWait = 5 * time.Second

// withProgress returns a request whose operation reports its progress, and the writer that writes it, if the client has
// asked for it; otherwise both as they were.
func withProgress(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	if !strings.Contains(r.Header.Get("Accept"), api.ProgressType) {
		return w, r
	}
	p := &progressWriter{ResponseWriter: w}
	return p, r.WithContext(engine.WithProgress(r.Context(), p.step))
}

// progressWriter writes lines of progress before the answer, which then is the last line. An answer that no progress came
// before is written as it would be without it.
type progressWriter struct {
	http.ResponseWriter
	done  int
	begun bool
	stuck bool // the client does not read
}

// step writes a line.
func (p *progressWriter) step(n int) {
	p.done += n
	if p.stuck {
		return
	}
	if !p.begun {
		p.begun = true
		p.Header().Set("Content-Type", api.ProgressType)
		p.ResponseWriter.WriteHeader(http.StatusOK)
	}
	c := http.NewResponseController(p.ResponseWriter)
	_ = c.SetWriteDeadline(time.Now().Add(progressWait)) // a writer that knows none, as in tests, does not wait either
	err := json.NewEncoder(p.ResponseWriter).Encode(api.Progress{Progress: p.done})
	if err == nil {
		err = c.Flush()
	}
	p.stuck = err != nil
}

// WriteHeader sends a status, unless there are lines already: then the last line says what it would have said.
func (p *progressWriter) WriteHeader(status int) {
	if !p.begun {
		p.ResponseWriter.WriteHeader(status)
	}
}
