package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxReading  = 256 << 20 // bytes of bodies being read, all together
	firstRead   = 64 << 10  // bytes for which room is made before any have come
	maxWaiting  = 4096      // accepts that wait for the store
	maxHeaders  = 16 << 10  // bytes of request headers that are stored with an event
	maxType     = 1 << 10   // bytes of a Content-Type, which every destination is told
	retryAfter5 = "5"       // seconds; what a sender is told while the gateway cannot take its callback

	// storeShare is what a body that is slow to arrive must leave of ack_within to the store, if that is no more than half.
	storeShare = 3 * time.Second
	// answerShare is what the store must leave of ack_within to the answer, if that is no more than a tenth.
	answerShare = 250 * time.Millisecond
)

// The results of a callback, as caddy_relay_callbacks_total has them.
const (
	ResultAccepted    = "accepted"
	ResultUnmatched   = "unmatched"
	ResultDuplicate   = "duplicate"
	ResultConflict    = "conflict"
	ResultSpooled     = "spooled"
	ResultDenied      = "denied"
	ResultUnverified  = "unverified"
	ResultInvalid     = "invalid"
	ResultTooLarge    = "too_large"
	ResultUnavailable = "unavailable"
)

// receiving counts what is under way.
type receiving struct {
	bytes   atomic.Int64
	accepts atomic.Int64
}

// Receipt is what became of a callback, for placeholders and logs.
type Receipt struct {
	Result  string // one of the Result constants
	EventID string // of the event that has the dedupe key; empty if the callback was rejected
	TaskID  string // empty if the callback was rejected
}

// rejection is the answer to a callback that is not accepted.
type rejection struct {
	status  int
	result  string
	code    string // for programs
	message string // one sentence, for the sender
	reason  error  // for the log; nil where message says it all
}

// Receive handles one callback: it checks, identifies, accepts and answers, never later than the source's AckWithin.
// client is the caller's address after trusted proxies; it may be invalid where it is unknown.
func (e *Engine) Receive(w http.ResponseWriter, r *http.Request, src *Source, client netip.Addr) Receipt {
	start := time.Now()
	m := e.metrics.source(src.Name)
	receipt, rej := e.receive(w, r, src, client, start)
	if rej != nil {
		receipt.Result = rej.result
		reject(w, rej)
		log := src.Logger.With("source", src.Name, "status", rej.status, "reason", rej.code,
			"remote_addr", r.RemoteAddr, "client_ip", client.String())
		if rej.reason != nil {
			log = log.With("error", rej.reason)
		}
		log.Warn("callback rejected: " + rej.message)
	} else {
		e.metrics.lastCallback.WithLabelValues(src.Name).Set(float64(start.UnixMilli()) / 1000)
	}
	m.count(receipt.Result)
	m.ackDuration.Observe(time.Since(start).Seconds())
	return receipt
}

func (e *Engine) receive(w http.ResponseWriter, r *http.Request, src *Source, client netip.Addr, start time.Time) (Receipt, *rejection) {
	readBy := src.readBy(start)
	cb := &Callback{Header: r.Header, Now: start, Deadline: readBy}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(readBy); err != nil {
		// A server without deadlines is told by the reader's own end: closing the body fails the read.
		timer := time.AfterFunc(time.Until(readBy), func() { _ = r.Body.Close() })
		defer timer.Stop()
	}
	if rej := checkRequest(r, src, client, cb); rej != nil {
		return Receipt{}, rej
	}
	if rej := verify(src, cb, false); rej != nil {
		return Receipt{}, rej
	}
	body, rej := e.readBody(w, r, src, readBy)
	defer e.receiving.bytes.Add(-int64(cap(body)))
	if rej != nil {
		return Receipt{}, rej
	}
	// Before, it stays: a server reads what is left of a body before it sends the answer of who did not read it.
	_ = control.SetReadDeadline(time.Time{})

	// Some signatures cover the task id, so it is read first; what is wrong with the shape is told only to who is verified.
	id, shape := Identify(src, body, r.Header)
	cb.Body, cb.TaskID = body, id.ID
	if rej := verify(src, cb, true); rej != nil {
		return Receipt{}, rej
	}
	if shape != nil {
		return Receipt{}, &rejection{http.StatusBadRequest, ResultInvalid, "invalid_body", Sentence(shape), nil}
	}

	if cap(body) > 2*len(body) {
		body = bytes.Clone(body) // its event stays in memory for a while: not with room for more than it has
	}
	ev := &Event{
		ID: newID(start), Source: src.Name,
		TaskID: id.ID, Stage: id.Stage, Code: id.Code, Key: id.Key, Fingerprint: id.Fingerprint,
		Origin: OriginCallback, ReceivedAt: start, Headers: storedHeaders(r, src), Body: body,
	}
	a, err := e.acceptWithin(r.Context(), src, ev, start)
	if err != nil {
		return Receipt{TaskID: ev.TaskID}, unavailable(err)
	}
	return e.answer(r.Context(), w, src, a), nil
}

// acceptWithin accepts an event in what is left of the source's AckWithin. It does not end with the request: the sender
// who hangs up may have sent all the same.
func (e *Engine) acceptWithin(ctx context.Context, src *Source, ev *Event, start time.Time) (*accepting, error) {
	defer e.receiving.accepts.Add(-1)
	if e.receiving.accepts.Add(1) > maxWaiting {
		return nil, errFull
	}
	answerBy := start.Add(src.AckWithin - min(answerShare, src.AckWithin/10))
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), answerBy)
	defer cancel()
	a, err := e.newAccept(ctx, src, ev)
	if err != nil {
		return nil, err
	}
	return e.accept(ctx, a)
}

// answer tells the sender that its callback is durable.
func (e *Engine) answer(ctx context.Context, w http.ResponseWriter, src *Source, a *accepting) Receipt {
	receipt := Receipt{EventID: a.FirstID, TaskID: a.Event.TaskID}
	header := w.Header()
	switch a.Result {
	case Accepted:
		receipt.Result = ResultAccepted
		if a.spooled {
			receipt.Result = ResultSpooled
		} else if len(a.Deliveries) == 0 {
			receipt.Result = ResultUnmatched
		}
	case Duplicate:
		receipt.Result = ResultDuplicate
		header["Relay-Duplicate"] = []string{"true"}
	case Conflict:
		receipt.Result = ResultConflict
		header["Relay-Duplicate"] = []string{"true"}
		src.Logger.Warn("callback conflicts with an earlier one of the same key; its body is kept as a variant of the event",
			"source", src.Name, "event_id", a.FirstID, "task_id", a.Event.TaskID)
	}
	header["Relay-Event-Id"] = []string{a.FirstID}
	if src.Response.Body != "" {
		header["Content-Type"] = []string{src.Response.ContentType}
	}
	w.WriteHeader(src.Response.Status)
	_, _ = io.WriteString(w, src.Response.Body)   // the callback is durable, whether or not its sender still listens
	if src.Logger.Enabled(ctx, slog.LevelDebug) { // its arguments cost something even where nobody wants them
		src.Logger.Debug("callback "+receipt.Result, "source", src.Name, "event_id", a.FirstID, "task_id", a.Event.TaskID)
	}
	return receipt
}

// checkRequest makes the checks that need no body: method, address, type, size.
func checkRequest(r *http.Request, src *Source, client netip.Addr, cb *Callback) *rejection {
	if r.Method != http.MethodPost {
		return &rejection{http.StatusMethodNotAllowed, ResultInvalid, "method_not_allowed", "Callbacks are sent by POST.", nil}
	}
	if !allowed(src, client) {
		return &rejection{http.StatusForbidden, ResultDenied, "address_not_allowed", "This address may not call.", nil}
	}
	if _, encoded := r.Header["Content-Encoding"]; encoded {
		return &rejection{http.StatusUnsupportedMediaType, ResultInvalid, "unsupported_encoding", "The body must not be encoded.", nil}
	}
	if !isJSON(r.Header.Get("Content-Type")) {
		return &rejection{http.StatusUnsupportedMediaType, ResultInvalid, "unsupported_media_type", "The body must be JSON, with a Content-Type that says so.", nil}
	}
	if r.ContentLength > src.MaxBody {
		return tooLarge(src)
	}
	if r.URL.RawQuery != "" && len(src.Verifiers) > 0 {
		cb.Query = r.URL.Query()
	}
	return nil
}

func allowed(src *Source, client netip.Addr) bool {
	if len(src.Allow) == 0 {
		return true
	}
	client = client.Unmap().WithZone("")
	for _, p := range src.Allow {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

func isJSON(contentType string) bool {
	if len(contentType) > maxType {
		return false
	}
	if contentType == "application/json" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) && (mediaType == "application/json" || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json"))
}

// verify asks the verifiers that need the body, or those that do not.
func verify(src *Source, cb *Callback, withBody bool) *rejection {
	for _, v := range src.Verifiers {
		if v.NeedsBody() != withBody {
			continue
		}
		if err := v.Verify(cb); errors.Is(err, ErrUndecided) {
			return unavailable(err)
		} else if err != nil {
			return &rejection{http.StatusUnauthorized, ResultUnverified, "verification_failed", "The callback could not be verified.", err}
		}
	}
	return nil
}

// readBy is when a body must have come, so that enough of ack_within is left to the store.
func (s *Source) readBy(start time.Time) time.Time {
	return start.Add(s.AckWithin - min(storeShare, s.AckWithin/2))
}

// readBody reads the whole body, bounded in size, in time and in what all bodies together may take. Its capacity has been
// added to the latter, even after an error.
func (e *Engine) readBody(w http.ResponseWriter, r *http.Request, src *Source, by time.Time) ([]byte, *rejection) {
	body, err := e.readAll(http.MaxBytesReader(w, r.Body, src.MaxBody), r.ContentLength)
	if err == nil {
		return body, nil
	}
	if errors.Is(err, errFull) {
		return body, unavailable(err)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return body, tooLarge(src)
	}
	if !time.Now().Before(by) {
		return body, &rejection{http.StatusRequestTimeout, ResultInvalid, "body_timeout", "The body did not arrive in time.", nil}
	}
	return body, &rejection{http.StatusBadRequest, ResultInvalid, "body_unreadable", "The body could not be read to its end.", err}
}

// readAll reads to the end. It makes room as the body comes, and not for what a sender only announces; the usual body
// takes one allocation.
func (e *Engine) readAll(r io.Reader, length int64) (body []byte, err error) {
	room := int64(firstRead)
	if 0 <= length && length < room {
		room = length + 1 // one more, so that the end is seen
	}
	for {
		if e.receiving.bytes.Add(room-int64(cap(body))) > maxReading {
			e.receiving.bytes.Add(int64(cap(body)) - room)
			return body, errFull
		}
		body = append(make([]byte, 0, room), body...)
		for len(body) < cap(body) {
			n, err := r.Read(body[len(body):cap(body)])
			if body = body[:len(body)+n]; errors.Is(err, io.EOF) {
				if length >= 0 && int64(len(body)) < length {
					return body, io.ErrUnexpectedEOF
				}
				return body, nil
			}
			if err != nil {
				return body, err
			}
		}
		room = 2 * int64(cap(body))
		if length >= int64(cap(body)) {
			room = min(room, length+1)
		}
	}
}

// storedHeaders are the request's headers as they are kept with the event: none that carries a secret, and no more of
// them than maxHeaders.
func storedHeaders(r *http.Request, src *Source) Headers {
	headers := make(Headers, len(r.Header))
	headers["content-type"] = r.Header.Get("Content-Type") // told to every destination
	room := maxHeaders
next:
	for name, values := range r.Header {
		switch name {
		case "Authorization", "Proxy-Authorization", "Cookie":
			continue
		}
		for _, v := range src.Verifiers {
			for _, secret := range v.Headers() {
				if textproto.CanonicalMIMEHeaderKey(secret) == name {
					continue next
				}
			}
		}
		value := strings.Join(values, ", ")
		if room -= len(name) + len(value); room < 0 {
			break
		}
		headers[strings.ToLower(name)] = strings.ToValidUTF8(value, "\ufffd")
	}
	if parent := inboundTrace(r.Context()); parent != "" {
		headers["traceparent"] = parent
	}
	return headers
}

// Sentence is an error as senders and operators read it.
func Sentence(err error) string {
	s := err.Error()
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

func tooLarge(src *Source) *rejection {
	return &rejection{
		http.StatusRequestEntityTooLarge, ResultTooLarge, "body_too_large",
		fmt.Sprintf("The body is larger than %d bytes.", src.MaxBody), nil,
	}
}

func unavailable(err error) *rejection {
	return &rejection{http.StatusServiceUnavailable, ResultUnavailable, "unavailable", "The callback cannot be taken now; send it again.", err}
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
	w.WriteHeader(rej.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": rej.code, "message": rej.message})
}
