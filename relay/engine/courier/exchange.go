package courier

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"
)

const (
	// A request of at most so many bytes fits the buffers of any connection, so writing it does not wait for the consumer.
	writtenAtOnce = 16 << 10
	// So long may the end of a large request take once the response has been read, or its connection is not kept.
	writtenWithin = 50 * time.Millisecond
)

// past is a deadline that ends all reading and writing.
var past = time.Unix(1, 0)

// exchange is a request and its response on a connection. It is the response's body, too.
type exchange struct {
	client   *Lean
	link     *link
	request  *http.Request
	response *http.Response
	body     io.Reader
	written  chan error    // what became of a request that is written beside; nil: it has been written
	complete bool          // the response has been read to its end
	idle     time.Duration // how long the connection may then be idle; negative: not at all
}

func begin(c *Lean, l *link, r *http.Request) *exchange {
	at, _ := r.Context().Deadline() // the zero time is none
	l.bound(r.Context(), l.SetDeadline, at)
	return &exchange{client: c, link: l, request: r, idle: -1}
}

// send writes the request and reads the header of the response. It returns the phase in which it failed, and whether any
// of the response had been received.
func (e *exchange) send(head *bytes.Buffer) (phase string, answered bool, err error) {
	phase, failed := waiting, error(nil)
	if head.Len()+int(e.request.ContentLength) <= writtenAtOnce {
		failed = e.write(head)
	} else {
		e.writeBeside(head)
	}
	if failed != nil {
		phase = sending
		if !isHangUp(failed) {
			return phase, false, failed
		}
	}
	answered, err = e.receive()
	if err == nil {
		return "", true, nil
	}
	if e.written != nil {
		failed = e.interrupt()
		if failed != nil {
			phase = sending
		}
	}
	if !answered && isHangUp(failed) {
		err = failed // which says more than that there is nothing to read
	}
	return phase, answered, err
}

func (e *exchange) write(head *bytes.Buffer) error {
	if e.request.ContentLength > 0 {
		if _, err := io.CopyN(head, e.request.Body, e.request.ContentLength); err != nil {
			return err
		}
	}
	_, err := e.link.Write(head.Bytes())
	return err
}

// writeBeside writes while the response is read, since a consumer may answer before it has read everything, or hang up.
func (e *exchange) writeBeside(head *bytes.Buffer) {
	first := bytes.Clone(head.Bytes())
	e.written = make(chan error, 1)
	go func() {
		_, err := e.link.Write(first)
		if err == nil {
			_, err = io.CopyN(e.link, e.request.Body, e.request.ContentLength)
		}
		e.written <- err
	}()
}

// interrupt ends the writing beside, if it goes on, and returns what became of it.
func (e *exchange) interrupt() error {
	_ = e.link.SetWriteDeadline(past)
	err := <-e.written
	e.written = nil
	return err
}

// receive reads the header of the response, and skips interim ones.
func (e *exchange) receive() (answered bool, err error) {
	l := e.link
	l.limit = e.client.headerLimit
	if _, err := l.reader.Peek(1); err != nil {
		return false, err
	}
	for {
		e.response, err = http.ReadResponse(l.reader, e.request) //nolint:bodyclose // the exchange is the body
		if err != nil {
			if l.limit <= 0 {
				err = fmt.Errorf("server response headers exceeded %d bytes", e.client.headerLimit)
			}
			return true, err
		}
		if status := e.response.StatusCode; status < 100 || status >= 200 || status == http.StatusSwitchingProtocols {
			break
		}
	}
	l.limit = math.MaxInt64
	e.complete = e.response.Body == http.NoBody
	e.body, e.response.Body = e.response.Body, e
	if !e.response.Close && e.response.StatusCode != http.StatusSwitchingProtocols {
		if idle, ok := announced(e.response); ok && e.client.announce {
			l.idle = min(l.idle, idle)
		}
		e.idle = l.idle
	}
	return true, nil
}

// Read reads the response's body.
func (e *exchange) Read(p []byte) (int, error) {
	n, err := e.body.Read(p)
	if err == io.EOF {
		e.complete = true
	}
	return n, err
}

// buffered reports whether the whole body has been received.
func (e *exchange) buffered() bool {
	n := e.response.ContentLength
	return n >= 0 && n <= int64(e.link.reader.Buffered())
}

// bound sets the time at which the reading of the body ends.
func (e *exchange) bound(at time.Time) { e.link.bound(e.request.Context(), e.link.SetReadDeadline, at) }

// Close keeps the connection for another request where both sides are done with this one, and closes it otherwise.
func (e *exchange) Close() error {
	if e.link == nil {
		return nil
	}
	if e.complete && e.idle >= 0 && e.link.reader.Buffered() == 0 {
		if e.written != nil {
			_ = e.link.SetWriteDeadline(time.Now().Add(writtenWithin))
			if err := <-e.written; err != nil {
				e.idle = -1
			}
			e.written = nil
		}
		if e.idle >= 0 && e.release() {
			e.client.pool.put(e.link, e.client.now(), e.idle)
			e.link = nil
			return nil
		}
	}
	e.abandon()
	return nil
}

// release reports whether the end of the request's context has not broken off the connection, and will not. The context
// of attempts is that of all other attempts, too, and is followed on.
func (e *exchange) release() bool {
	ctx := e.request.Context()
	if _, ok := ctx.(*deadline); ok {
		return ctx.Err() == nil
	}
	return e.link.alone()
}

// abandon closes the connection, and waits for what is still being written.
func (e *exchange) abandon() {
	if e.written != nil {
		_ = e.interrupt()
	}
	e.link.close()
	e.link = nil
}
