package intake

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	firstRead = 4 << 10 // bytes for which room is made before any have come

	// storeShare is the part of ack_within that a body which is slow to arrive must leave to the store, half of it at most.
	storeShare = 3 * time.Second
)

// readBy is when a body must have come, so that enough of ack_within is left to the store.
func readBy(src *relay.Source, start time.Time) time.Time {
	return start.Add(src.AckWithin - min(storeShare, src.AckWithin/2))
}

// readBody reads the whole body, bounded in size, in time and in what all bodies together may take.
func readBody(w http.ResponseWriter, r *http.Request, src *relay.Source, by time.Time, room *room) ([]byte, *rejection) {
	body, err := readAll(http.MaxBytesReader(w, r.Body, src.MaxBody), r.ContentLength, src.MaxBody, room)
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, errFull):
		return nil, unavailable(err)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(src)
	}
	if room.close() {
		return nil, unavailable(errFull)
	}
	if !time.Now().Before(by) {
		return nil, &rejection{http.StatusRequestTimeout, relay.ResultInvalid, "body_timeout", "The body did not arrive in time.", nil}
	}
	return nil, &rejection{http.StatusBadRequest, relay.ResultInvalid, "body_unreadable", "The body could not be read to its end.", err}
}

// readAll reads to the end. It makes room as the body comes, and not for what a sender only announces; the usual body
// needs one allocation. r ends, or fails, after most bytes.
func readAll(r io.Reader, length, most int64, room *room) (body []byte, err error) {
	size := int64(firstRead)
	if 0 <= length && length < size {
		size = length + 1 // one more, so that the end is seen
	}
	for {
		if !room.grow(size - int64(cap(body))) {
			return nil, errFull
		}
		body = append(make([]byte, 0, size), body...)
		for len(body) < cap(body) {
			n, err := r.Read(body[len(body):cap(body)])
			if body = body[:len(body)+n]; errors.Is(err, io.EOF) {
				if length >= 0 && int64(len(body)) < length {
					return nil, io.ErrUnexpectedEOF
				}
				return body, nil
			}
			if err != nil {
				return nil, err
			}
		}
		size = max(int64(cap(body))+1, min(4*int64(cap(body)), most+1))
		if length >= int64(cap(body)) && length < 2*size { // all that is announced, if it is no more than twice as much
			size = min(length, most) + 1
		}
	}
}
