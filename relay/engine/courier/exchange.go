package courier

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
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
	ctx      context.Context // of the request
	response *http.Response
	body     io.Reader
	written  chan error    // what became of a request that is written beside; nil: it has been written
	complete bool          // the response has been read to its end
	idle     time.Duration // how long the connection may then be idle; negative: not at all
}

func begin(c *Lean, l *link, ctx context.Context) *exchange {
	at, _ := ctx.Deadline() // the zero time is none
	l.bound(ctx, l.SetDeadline, at)
	return &exchange{client: c, link: l, ctx: ctx, idle: -1}
}

// send writes the request and reads the header of the response. It returns the phase in which it failed, and whether any
// of the response had been received.
func (e *exchange) send(m *message) (phase string, answered bool, err error) {
	phase, failed := waiting, error(nil)
	if len(m.body) == 0 {
		_, failed = e.link.Write(m.head.Bytes())
	} else {
		e.writeBeside(bytes.Clone(m.head.Bytes()), m.body)
	}
	if failed != nil {
		phase = sending
		if !isHangUp(failed) {
			return phase, false, failed
		}
	}
	// Whoever is ready to run does so now: the response that has come meanwhile needs no waiting for it, which costs a read in
	// vain and a look at all connections.
	runtime.Gosched()
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

// writeBeside writes while the response is read, since a consumer may answer before it has read everything, or hang up.
func (e *exchange) writeBeside(parts ...[]byte) {
	e.written = make(chan error, 1)
	go func() {
		for _, part := range parts {
			if _, err := e.link.Write(part); err != nil {
				e.written <- err
				return
			}
		}
		e.written <- nil
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
		e.response, err = http.ReadResponse(l.reader, nil) //nolint:bodyclose // the exchange is the body
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
func (e *exchange) bound(at time.Time) { e.link.bound(e.ctx, e.link.SetReadDeadline, at) }

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
	if _, ok := e.ctx.(*deadline); ok {
		return e.ctx.Err() == nil
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
