package courier

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestStatusDecides answers with bodies that are no good: nothing of it changes what the status says.
func TestStatusDecides(t *testing.T) { forClients(t, testStatusDecides) }

func testStatusDecides(t *testing.T, k client) {
	for name, test := range map[string]struct {
		answer   string
		then     func(*testing.T, net.Conn) // after the answer
		timeout  time.Duration
		status   int
		err      string
		response string
		atMost   time.Duration
	}{
		"slow": {
			answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", status: 200,
			err: "reading the response: it took too long", response: "abc", atMost: bodyWithin + 3*time.Second,
		},
		"slow beyond the timeout": {
			answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", status: 204,
			atMost: time.Second,
		},
		"as slow as the timeout": {
			answer: "HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nabc", timeout: 300 * time.Millisecond, status: 202,
			err: "reading the response: it took too long", response: "abc", atMost: bodyWithin - 200*time.Millisecond,
		},
		"slow refusal": {
			answer: "HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nabc", timeout: 300 * time.Millisecond, status: 500,
			err: "reading the response: it took too long", response: "abc", atMost: bodyWithin - 200*time.Millisecond,
		},
		"cut": {
			answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", then: func(_ *testing.T, c net.Conn) { _ = c.Close() },
			status: 200, err: "reading the response: the connection was closed", response: "abc",
		},
		"no chunks": {
			answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", status: 200,
			err: "reading the response: invalid byte in chunk length", response: "abc",
		},
		"reset": {
			answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
			then: func(t *testing.T, c net.Conn) {
				if err := c.(*net.TCPConn).SetLinger(0); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			},
			status: 200, err: "reading the response: connection reset by peer", response: "abc",
		},
		"endless": {
			answer: "HTTP/1.1 200 OK\r\n\r\n",
			then: func(_ *testing.T, c net.Conn) {
				for {
					if _, err := c.Write([]byte(strings.Repeat("x", 1000))); err != nil {
						return // the gateway has closed it
					}
				}
			},
			status: 200, response: strings.Repeat("x", keptBody), atMost: bodyWithin,
		},
		"to the end": {
			answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", status: 200, response: "abc", atMost: bodyWithin,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := listen(t, func(c net.Conn) {
				if readHeader(bufio.NewReader(c)) != nil {
					return
				}
				if _, err := c.Write([]byte(test.answer)); err != nil {
					t.Error(err)
				}
				if test.then != nil {
					test.then(t, c)
				}
				hang(c)
			})
			dst := k.to(t, "http://"+address)
			if test.timeout > 0 {
				dst.Timeout = test.timeout
			}
			a := attempt(t, dst, "{}")
			// What was received before a reset may be lost with it.
			if response := string(a.Response); response != test.response && (name != "reset" || response != "") {
				t.Errorf("response %q", response)
			}
			if a.Status != test.status || a.Error != test.err || a.Released {
				t.Errorf("status %d, error %q, released %t", a.Status, a.Error, a.Released)
			}
			if test.atMost > 0 && a.Duration > test.atMost {
				t.Errorf("it took %v", a.Duration)
			}
		})
	}
}

func TestEndOfTheEngine(t *testing.T) { forClients(t, testEndOfTheEngine) }

func testEndOfTheEngine(t *testing.T, k client) {
	for name, test := range map[string]struct {
		answer   string
		status   int
		released bool
		err      string
	}{
		"before the answer": {released: true, err: "waiting for the response: context canceled"},
		"after the status":  {answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", status: 200, err: "reading the response: the gateway stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := cancelled(t)
			address := listen(t, func(c net.Conn) {
				if readHeader(bufio.NewReader(c)) != nil {
					return
				}
				_, _ = c.Write([]byte(test.answer))
				if test.status == 0 {
					cancel()
				}
				hang(c)
			})
			dst := k.to(t, "http://"+address)
			dst.Transport = afterResponse{dst.Transport, cancel}
			a := New("", new(Tracing)).Attempt(ctx, dst, leased([]byte("{}")))
			if a.Status != test.status || a.Released != test.released || a.Error != test.err {
				t.Errorf("status %d, released %t, error %q", a.Status, a.Released, a.Error)
			}
			if a.Duration > bodyWithin {
				t.Errorf("it took %v", a.Duration)
			}
		})
	}
}

// afterResponse calls a function once a response's header has been read.
type afterResponse struct {
	http.RoundTripper
	do func()
}

func (a afterResponse) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := a.RoundTripper.RoundTrip(r)
	a.do()
	return res, err
}

func TestTimeout(t *testing.T) { forClients(t, testTimeout) }

func testTimeout(t *testing.T, k client) {
	address := listen(t, hang)
	dst := k.to(t, "http://"+address+"/?token=secret")
	dst.Timeout = 200 * time.Millisecond
	if a := attempt(t, dst, "{}"); a.Status != 0 || a.Error != "waiting for the response: timeout after 200ms" || a.Released {
		t.Errorf("status %d, error %q", a.Status, a.Error)
	}
}
