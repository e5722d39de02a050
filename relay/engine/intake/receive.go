// Package intake handles callbacks: receive, verify, identify, accept, answer. What is accepted is durable (1).
package intake

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/engine/report"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Params are the dependencies of an intake.
type Params struct {
	Door   *Door
	Meter  *meter.Metrics
	Report *report.Reporter
	Logger func() *slog.Logger // of the current settings; it never blocks
	// Traced learns of the span that the server has opened for a callback, where it traces the source's callbacks.
	Traced func(source string, span trace.Span)
	// Counted, if set, is called for each callback with its result, one of relay.Results; it must not block.
	Counted func(source, result string)
}

// Intake handles callbacks over HTTP.
type Intake struct {
	params     Params
	budget     *budget // of bodies that are being read
	refused    *budget // of those whose callbacks are refused already
	rejections *rejections
}

// New returns an intake.
func New(p Params) *Intake {
	failed := func(err error) {
		p.Logger().Error("ending the read of a late body failed; trying again", "error", err, "stack", guard.Stack(err))
	}
	return &Intake{
		params: p, budget: newBudget(maxReading, failed), refused: newBudget(maxRefused, failed), rejections: newRejections(keptBytes),
	}
}

// Receipt is the result of a callback, for placeholders and logs.
type Receipt struct {
	Result  string // one of relay.Results
	EventID string // of the event that has the dedupe key; empty if the callback was rejected
	TaskID  string // empty if the callback was rejected
}

// Receive handles one callback: it checks, identifies, accepts and answers, never later than the source's AckWithin.
// client is the caller's address after trusted proxies; it may be invalid where it is unknown.
func (in *Intake) Receive(w http.ResponseWriter, r *http.Request, src *relay.Source, client netip.Addr) Receipt {
	start := time.Now()
	m := in.params.Meter.Source(src.Name)
	receipt, rej := in.receive(w, r, src, client, m, start)
	if rej != nil {
		receipt.Result = rej.result
		in.count(m, src, rej.result)
		reject(w, rej)
		log := in.params.Report.Logger(src.Logger).With("source", src.Name, "status", rej.status, "reason", rej.code,
			"remote_addr", r.RemoteAddr, "client_ip", client.String())
		if rej.reason != nil {
			log = log.With("error", rej.reason)
		}
		log.Warn("callback rejected: " + rej.message)
	}
	m.AckDuration.Observe(time.Since(start).Seconds())
	return receipt
}

// count counts a callback before it is answered: whoever has the answer finds it in the metrics.
func (in *Intake) count(m *meter.Source, src *relay.Source, result string) {
	m.Count(result)
	if in.params.Counted != nil {
		in.params.Counted(src.Name, result)
	}
}

func (in *Intake) receive(w http.ResponseWriter, r *http.Request, src *relay.Source, client netip.Addr, m *meter.Source, start time.Time) (_ Receipt, rej *rejection) {
	readBy := readBy(src, start)
	cb := &relay.Callback{Header: r.Header, Format: src.Body, Now: start, Deadline: readBy}
	control := http.NewResponseController(w)
	hurried := false
	defer func() {
		if rej != nil {
			if !hurried { // a server reads what is left of a body before it sends the answer of who did not read it
				_ = control.SetReadDeadline(readBy)
			}
			in.keep(w, r, src, client, cb, rej)
		}
	}()
	if rej := in.checkRequest(r, src, client, cb); rej != nil {
		return Receipt{}, rej
	}
	if rej := verify(src, cb, false); rej != nil {
		return Receipt{}, rej
	}
	room := in.budget.open(src.Name, readBy, func() { hurry(control, r) })
	defer room.close()
	body, rej := readBody(w, r, src, readBy, room)
	hurried = room.whole()
	if rej != nil {
		return Receipt{}, rej
	}
	if hurried {
		_ = control.SetReadDeadline(time.Time{}) // or the connection would end with the answer
	}

	// Some signatures cover the task id, so it is read first; what is wrong with the shape is answered only to who is verified.
	id, shape := Identify(src, body, r.Header)
	cb.Body, cb.TaskID = body, id.ID
	if rej := verify(src, cb, true); rej != nil {
		return Receipt{}, rej
	}
	if shape != nil {
		return Receipt{}, &rejection{http.StatusBadRequest, relay.ResultInvalid, "invalid_body", relay.Sentence(shape), nil}
	}

	if cap(body) > 2*len(body) {
		body = bytes.Clone(body) // its event stays in memory for a while: not with room for more than it has
	}
	ev := id.event(src, relay.OriginCallback, start, storedHeaders(r, src), body)
	if cb.Proof != "" && !cb.BodyCovered {
		ev.Headers[relay.ProofHeader] = cb.Proof
	}
	ev.Pack()
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		in.params.Traced(src.Name, span)
	}
	outcome, err := in.params.Door.Accept(r.Context(), src, ev, start)
	if err != nil {
		return Receipt{TaskID: ev.TaskID}, unavailable(err)
	}
	switch outcome.Result {
	case relay.Replayed:
		return Receipt{TaskID: ev.TaskID}, &rejection{
			http.StatusUnauthorized, relay.ResultUnverified, "verification_failed", "The callback could not be verified.",
			relay.ErrReplayed,
		}
	case relay.Unkept:
		in.params.Report.Logger(src.Logger).Error("callback conflicts with an earlier one of the same key, and cannot be kept: it is answered with 503",
			"source", src.Name, "event_id", outcome.EventID, "task_id", ev.TaskID, "most", relay.MaxVariants)
		return Receipt{TaskID: ev.TaskID}, unavailable(relay.ErrUnkept)
	}
	m.Called(start)
	in.count(m, src, outcome.Name())
	return in.answer(r.Context(), w, src, ev, outcome), nil
}

// Stop ends what looks after bodies, and waits for that.
func (in *Intake) Stop() {
	in.budget.overdue.Stop()
	in.refused.overdue.Stop()
}

// hurry makes the read of a body fail now.
func hurry(control *http.ResponseController, r *http.Request) {
	if control.SetReadDeadline(time.Now()) != nil {
		_ = r.Body.Close() // a server without deadlines notices that at least
	}
}
