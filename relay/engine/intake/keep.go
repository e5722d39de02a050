package intake

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	// refusedShare is how long the body of a callback that is refused already may take to arrive, and refusedPause how long it
	// may keep the answer waiting without a byte.
	refusedShare, refusedPause = 2 * time.Second, 500 * time.Millisecond
	// maxRefused is how many bytes of such bodies may be read at a time. It is a budget of its own, so that strangers take
	// none of the room that callbacks have.
	maxRefused = 16 << 20
)

// keep keeps a rejected callback for a look, with its body if an operator may want to take it in after all: because a
// secret, an address list or a dedupe key was configured wrongly. It may be the only copy, since many senders do not
// try again after a 4xx.
func (in *Intake) keep(w http.ResponseWriter, r *http.Request, src *relay.Source, client netip.Addr, cb *relay.Callback, rej *rejection) {
	body := cb.Body
	kept := body != nil && (rej.status == http.StatusBadRequest || rej.status == http.StatusUnauthorized)
	if body == nil && (rej.status == http.StatusUnauthorized || rej.status == http.StatusForbidden) {
		body, kept = in.readRefused(w, r, src, cb)
	}
	size := int64(len(body))
	switch {
	case body == nil:
		size = max(r.ContentLength, 0)
	case !kept:
		body = nil
	case cap(body) > 2*len(body):
		body = bytes.Clone(body)
	}
	why := rej.message
	if rej.reason != nil {
		why = strings.TrimSuffix(why, ".") + ": " + rej.reason.Error() + "."
	}
	taskID := cb.TaskID
	if !isTaskID(taskID) {
		taskID = "" // what a stranger sent in its place may be as long as a body
	}
	// Copies, since the strings of a request share the memory of all its headers.
	path := strings.Clone(strings.ToValidUTF8(r.URL.Path[:min(len(r.URL.Path), maxPath)], ""))
	one := &rejected{Rejected: Rejected{
		ID: NewID(cb.Now), Source: src.Name, At: cb.Now,
		Method: strings.Clone(r.Method), Path: path,
		Remote: r.RemoteAddr, Client: client,
		Status: rej.status, Result: rej.result, Code: rej.code, Reason: why,
		TaskID: taskID, Headers: storedHeaders(r, src), Body: body, Size: size, Kept: kept,
	}}
	if kept {
		one.header = r.Header.Clone()
		for _, credential := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
			delete(one.header, credential)
		}
	}
	in.rejections.add(one)
}

// readRefused reads the body of a callback that is refused whatever it holds. It reports false where that is too large,
// too slow, or too much beside others.
func (in *Intake) readRefused(w http.ResponseWriter, r *http.Request, src *relay.Source, cb *relay.Callback) (body []byte, whole bool) {
	if r.ContentLength > src.MaxBody {
		return nil, false
	}
	by := time.Now().Add(min(refusedShare, time.Until(cb.Deadline)))
	soon := func() time.Time { return time.Now().Add(min(refusedPause, time.Until(by))) }
	control := http.NewResponseController(w)
	coming := &progressing{ReadCloser: r.Body}
	r.Body = coming
	room := in.refused.open(src.Name, soon(), func() { hurry(control, r) })
	defer room.close()
	coming.came = func() { room.until(soon()) }
	body, rej := readBody(w, r, src, by, room)
	if rej != nil {
		return nil, false // the deadline stays, for what the server reads itself
	}
	room.whole()
	_ = control.SetReadDeadline(time.Time{})
	return body, true
}

// progressing is a body that tells when some of it has come.
type progressing struct {
	io.ReadCloser
	came func()
}

func (p *progressing) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if n > 0 {
		p.came()
	}
	return n, err
}
