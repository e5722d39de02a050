package intake

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	maxReading = 256 << 20 // bytes of bodies being read, all together
	firstRead  = 64 << 10  // bytes for which room is made before any have come

	// storeShare is what a body that is slow to arrive must leave of ack_within to the store, if that is no more than half.
	storeShare = 3 * time.Second
)

// readBy is when a body must have come, so that enough of ack_within is left to the store.
func readBy(src *relay.Source, start time.Time) time.Time {
	return start.Add(src.AckWithin - min(storeShare, src.AckWithin/2))
}

// readBody reads the whole body, bounded in size, in time and in what all bodies together may take. Its capacity has been
// added to the latter, even after an error.
func (in *Intake) readBody(w http.ResponseWriter, r *http.Request, src *relay.Source, by time.Time) ([]byte, *rejection) {
	body, err := in.readAll(http.MaxBytesReader(w, r.Body, src.MaxBody), r.ContentLength)
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
		return body, &rejection{http.StatusRequestTimeout, relay.ResultInvalid, "body_timeout", "The body did not arrive in time.", nil}
	}
	return body, &rejection{http.StatusBadRequest, relay.ResultInvalid, "body_unreadable", "The body could not be read to its end.", err}
}

// readAll reads to the end. It makes room as the body comes, and not for what a sender only announces; the usual body
// takes one allocation.
func (in *Intake) readAll(r io.Reader, length int64) (body []byte, err error) {
	room := int64(firstRead)
	if 0 <= length && length < room {
		room = length + 1 // one more, so that the end is seen
	}
	for {
		if in.reading.Add(room-int64(cap(body))) > maxReading {
			in.reading.Add(int64(cap(body)) - room)
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
