package intake

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

// retryAfter5 is the Retry-After, in seconds, while the gateway cannot accept a callback.
const retryAfter5 = "5"

// rejection is the answer to a callback that is not accepted.
type rejection struct {
	status  int
	result  string
	code    string // for programs
	message string // one sentence, for the sender
	reason  error  // for the log; nil where message says it all
}

// answer answers a callback that is durable.
func (in *Intake) answer(ctx context.Context, w http.ResponseWriter, src *relay.Source, ev *relay.Event, o Outcome) Receipt {
	receipt := Receipt{Result: o.Name(), EventID: o.EventID, TaskID: ev.TaskID}
	header := w.Header()
	header["Relay-Event-Id"] = []string{o.EventID}
	if o.Result != relay.Accepted {
		header["Relay-Duplicate"] = []string{"true"}
	}
	if src.Response.Body != "" {
		header["Content-Type"] = []string{src.Response.ContentType}
	}
	send(w, src.Response.Status, src.Response.Body)

	debug := src.Logger.Enabled(ctx, slog.LevelDebug)
	if !debug && o.ConflictWith == "" && o.Result != relay.Conflict {
		return receipt // usually nothing is logged, and a logger costs something
	}
	logger := in.params.Report.Logger(src.Logger)
	LogConflict(logger, ev, o.Result, o.EventID, o.ConflictWith)
	if debug {
		logger.Debug("callback "+receipt.Result, "source", src.Name, "event_id", o.EventID, "task_id", ev.TaskID)
	}
	return receipt
}

// LogConflict logs that a callback conflicts with an earlier one, if it does: with the event id, whose variant its body is, or
// with another event, beside which it is event id.
func LogConflict(logger *slog.Logger, ev *relay.Event, result relay.Result, id, with string) {
	switch {
	case with != "":
		logger.Warn("callback conflicts with an earlier one of the same key; it is delivered as an event of its own",
			"source", ev.Source, "event_id", id, "conflict_with", with, "task_id", ev.TaskID)
	case result == relay.Conflict:
		logger.Warn("callback conflicts with an earlier one of the same key; its body is kept as a variant of the event",
			"source", ev.Source, "event_id", id, "task_id", ev.TaskID)
	}
}

func tooLarge(src *relay.Source) *rejection {
	return &rejection{
		http.StatusRequestEntityTooLarge, relay.ResultTooLarge, "body_too_large",
		fmt.Sprintf("The body is larger than %d bytes.", src.MaxBody), nil,
	}
}

func unavailable(err error) *rejection {
	return &rejection{http.StatusServiceUnavailable, relay.ResultUnavailable, "unavailable", "The callback cannot be taken now; send it again.", err}
}

// reject answers a callback that is not accepted.
func reject(w http.ResponseWriter, rej *rejection) {
	header := w.Header()
	switch rej.status {
	case http.StatusMethodNotAllowed:
		header.Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", retryAfter5)
	}
	header.Set("Content-Type", "application/json")
	body, _ := json.Marshal(map[string]string{"error": rej.code, "message": rej.message}) // strings always marshal
	send(w, rej.status, string(body)+"\n")
}

// send writes an answer and hands it to the network at once: what the server does after the handler, such as to write an
// access log that nobody reads, must not hold it up (7).
func send(w http.ResponseWriter, status int, body string) {
	if status != http.StatusNoContent {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // a callback is durable, whether or not its sender still listens
	_ = http.NewResponseController(w).Flush()
}
