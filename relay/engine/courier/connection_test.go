package courier

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// readRequest reads a request with its body, and reports whether there was one.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// TestKeptConnectionIsClosed closes kept connections as they are used again.
func TestKeptConnectionIsClosed(t *testing.T) { forClients(t, testKeptConnectionIsClosed) }

func testKeptConnectionIsClosed(t *testing.T, k client) {
	reset := func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	large := strings.Repeat("x", 4<<20)
	for name, test := range map[string]struct {
		second func(net.Conn, *bufio.Reader) // the second request of a connection
		body   string
	}{
		"after the request":            {func(_ net.Conn, r *bufio.Reader) { readRequest(r) }, "{}"},
		"by a reset after the request": {func(c net.Conn, r *bufio.Reader) { readRequest(r); reset(c) }, "{}"},
		"unread":                       {func(_ net.Conn, r *bufio.Reader) { _, _ = r.Peek(1) }, "{}"},
		"within a large body":          {func(c net.Conn, r *bufio.Reader) { _ = readHeader(r); reset(c) }, large},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns, answered atomic.Int64
			address := listen(t, func(c net.Conn) {
				conns.Add(1)
				r := bufio.NewReader(c)
				if readRequest(r) {
					answered.Add(1)
					_, _ = c.Write([]byte(ok))
					test.second(c, r)
				}
			})
			dst := k.to(t, "http://"+address)
			for range 10 {
				wantStatus(t, attempt(t, dst, test.body), http.StatusOK)
			}
			if answered.Load() != 10 || conns.Load() != 10 {
				t.Errorf("%d requests were answered on %d connections", answered.Load(), conns.Load())
			}
		})
	}
}

// TestNewConnectionIsClosed is nobody's fault but the consumer's: nothing is repeated.
func TestNewConnectionIsClosed(t *testing.T) { forClients(t, testNewConnectionIsClosed) }

func testNewConnectionIsClosed(t *testing.T, k client) {
	var requests atomic.Int64
	address := listen(t, func(c net.Conn) {
		if readRequest(bufio.NewReader(c)) {
			requests.Add(1)
		}
	})
	dst := k.to(t, "http://"+address)
	if a := attempt(t, dst, "{}"); a.Error != "waiting for the response: the connection was closed" || requests.Load() != 1 {
		t.Errorf("error %q after %d requests", a.Error, requests.Load())
	}
}

// TestResponseIsCut breaks a kept connection within the answer, after which a repetition would be another attempt.
func TestResponseIsCut(t *testing.T) { forClients(t, testResponseIsCut) }

func testResponseIsCut(t *testing.T, k client) {
	var requests atomic.Int64
	address := listen(t, func(c net.Conn) {
		for r := bufio.NewReader(c); readRequest(r); {
			if requests.Add(1) == 2 {
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-"))
				return
			}
			_, _ = c.Write([]byte(ok))
		}
	})
	dst := k.to(t, "http://"+address)
	wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
	if a := attempt(t, dst, "{}"); a.Status != 0 || !strings.HasPrefix(a.Error, "waiting for the response: ") || requests.Load() != 2 {
		t.Errorf("status %d, error %q after %d requests", a.Status, a.Error, requests.Load())
	}
}

// TestNode posts to a real Node server that closes idle connections at once, and others as they are used again.
func TestNode(t *testing.T) { forClients(t, testNode) }

func testNode(t *testing.T, k client) {
	const script = `
		const server = require('http').createServer((req, res) => {
			req.socket.requests = (req.socket.requests || 0) + 1
			if (req.url === '/destroy' && req.socket.requests === 2) { req.socket.destroy(); return }
			req.resume().on('end', () => res.end('ok'))
		})
		server.keepAliveTimeout = 1
		server.keepAliveTimeoutBuffer = 0
		server.listen(0, '127.0.0.1', () => console.log(server.address().port))
		process.stdin.resume().on('end', () => process.exit())`
	node := exec.CommandContext(t.Context(), "node", "-e", script)
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = node.Wait()
	}()
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/destroy"} {
		// An idle time of the operator's own, so that the announcement does not help.
		dst := k.over(t, "http://127.0.0.1:"+strings.TrimSpace(port)+path, &http.Transport{}, time.Minute)
		for i := range 200 {
			if a := attempt(t, dst, "{}"); a.Status != http.StatusOK || a.Error != "" {
				t.Fatalf("%s, attempt %d: status %d, error %q", path, i+1, a.Status, a.Error)
			}
		}
	}
}

// TestEarlyAnswer answers before a large body has been read, and hangs up.
func TestEarlyAnswer(t *testing.T) { forClients(t, testEarlyAnswer) }

func testEarlyAnswer(t *testing.T, k client) {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	config := server.TLS.Clone()
	server.Close()
	config.NextProtos = []string{"http/1.1"}
	for _, scheme := range []string{"http", "https"} {
		for _, status := range []string{"200 OK", "500 Oops"} {
			t.Run(scheme+" "+status[:3], func(t *testing.T) {
				t.Parallel()
				address := listen(t, func(c net.Conn) {
					if scheme == "https" {
						tlsConn := tls.Server(c, config)
						if tlsConn.Handshake() != nil {
							return
						}
						_ = readHeader(bufio.NewReader(tlsConn))
						_, _ = tlsConn.Write([]byte(strings.Replace(ok, "200 OK", status, 1)))
						return // closed with unread data, which is a reset
					}
					_ = readHeader(bufio.NewReader(c))
					_, _ = c.Write([]byte(strings.Replace(ok, "200 OK", status, 1)))
				})
				dst := k.to(t, scheme+"://"+address)
				body := strings.Repeat("x", 8<<20)
				for range 25 {
					a := attempt(t, dst, body)
					if fmt.Sprint(a.Status) != status[:3] || string(a.Response) != "ok" {
						t.Fatalf("status %d, response %q, error %q", a.Status, a.Response, a.Error)
					}
				}
			})
		}
	}
}

func TestEarlyAnswerHTTP2(t *testing.T) {
	server := serveHTTP2(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	dst, _ := destination(t, server.URL)
	body := strings.Repeat("x", 8<<20)
	for range 25 {
		wantStatus(t, attempt(t, dst, body), http.StatusAccepted)
	}
}

// TestNoAnswerToALargeBody hangs up without one.
func TestNoAnswerToALargeBody(t *testing.T) { forClients(t, testNoAnswerToALargeBody) }

func testNoAnswerToALargeBody(t *testing.T, k client) {
	address := listen(t, func(c net.Conn) { _ = readHeader(bufio.NewReader(c)) })
	dst := k.to(t, "http://"+address)
	a := attempt(t, dst, strings.Repeat("x", 8<<20))
	if a.Status != 0 || !regexp.MustCompile("^(sending the request|waiting for the response): (connection reset by peer|broken pipe|the connection was closed)$").MatchString(a.Error) {
		t.Errorf("status %d, error %q", a.Status, a.Error)
	}
}

// connectionCounter counts the connections of a server, and those that are closed.
type connectionCounter struct {
	opened, closed atomic.Int64
	changed        chan struct{}
}

func (c *connectionCounter) state(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.opened.Add(1)
	case http.StateClosed:
		c.closed.Add(1)
		c.changed <- struct{}{}
	}
}

// awaitClosed waits until n connections have been closed.
func (c *connectionCounter) awaitClosed(tb testing.TB, n int64) {
	tb.Helper()
	for c.closed.Load() < n {
		select {
		case <-c.changed:
		case <-time.After(20 * time.Second):
			tb.Fatalf("%d connections are closed, want %d", c.closed.Load(), n)
		}
	}
}

func counted(tb testing.TB, http2 bool, handler http.HandlerFunc) (*httptest.Server, *connectionCounter) {
	tb.Helper()
	counter := &connectionCounter{changed: make(chan struct{}, 100)}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = counter.state
	if server.EnableHTTP2 = http2; http2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	tb.Cleanup(server.Close)
	return server, counter
}

// TestAge uses a connection every minute: after five it is replaced, and closed.
func TestAge(t *testing.T) { forClients(t, testAge) }

func testAge(t *testing.T, k client) {
	for name, protocol := range map[string]int{"HTTP/1.1": 1, "HTTP/2": 2} {
		t.Run(name, func(t *testing.T) {
			if protocol == 2 && k == lean {
				t.Skip("it speaks HTTP/1.1")
			}
			server, counter := counted(t, protocol == 2, func(_ http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != protocol {
					t.Errorf("the request came by %s", r.Proto)
				}
			})
			dst := k.over(t, server.URL, &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}, time.Hour)
			start := time.Now()
			var minutes atomic.Int64
			setClock(dst.Transport, func() time.Time { return start.Add(time.Duration(minutes.Load()) * time.Minute) })
			for range 13 {
				wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
				minutes.Add(1)
			}
			if protocol == 1 {
				counter.awaitClosed(t, 2) // one of HTTP/2 may not have noticed the end of its last request, and is idle for its time
			}
			if counter.opened.Load() != 3 {
				t.Errorf("%d connections in 12 minutes", counter.opened.Load())
			}
		})
	}
}

// TestAgeOfABusyConnection ends it after the request that it serves.
func TestAgeOfABusyConnection(t *testing.T) { forClients(t, testAgeOfABusyConnection) }

func testAgeOfABusyConnection(t *testing.T, k client) {
	arrived, release := make(chan struct{}), make(chan struct{})
	server, counter := counted(t, false, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
	})
	dst := k.to(t, server.URL+"/slow")
	var old atomic.Bool
	setClock(dst.Transport, func() time.Time {
		if old.Load() {
			return time.Now().Add(connectionAge)
		}
		return time.Now()
	})
	var group sync.WaitGroup
	group.Go(func() { wantStatus(t, attempt(t, dst, "{}"), http.StatusOK) })
	<-arrived
	old.Store(true)
	other := *dst
	other.URL = &url.URL{Scheme: "http", Host: dst.URL.Host}
	wantStatus(t, attempt(t, &other, "{}"), http.StatusOK)
	close(release)
	group.Wait()
	counter.awaitClosed(t, 1)
}

// TestAnnouncedIdleTime closes an idle connection before the consumer does.
func TestAnnouncedIdleTime(t *testing.T) { forClients(t, testAnnouncedIdleTime) }

func testAnnouncedIdleTime(t *testing.T, k client) {
	handler := func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Keep-Alive", "max=100, Timeout=2") }
	t.Run("announced", func(t *testing.T) {
		t.Parallel()
		server, counter := counted(t, false, handler)
		dst := k.to(t, server.URL)
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK) // the connection on which the consumer announces it
		counter.awaitClosed(t, 1)
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		counter.awaitClosed(t, 2)
		if counter.opened.Load() != 2 {
			t.Errorf("%d connections", counter.opened.Load())
		}
	})
	t.Run("the operator wins", func(t *testing.T) {
		t.Parallel()
		server, counter := counted(t, false, handler)
		dst := k.over(t, server.URL, &http.Transport{}, time.Hour)
		for range 3 {
			wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		}
		if counter.opened.Load() != 1 {
			t.Errorf("%d connections", counter.opened.Load())
		}
	})
}

func TestAnnounced(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"timeout=5": 4 * time.Second, "timeout=5, max=1000": 4 * time.Second, "max=3,TIMEOUT = 75": 74 * time.Second,
		"timeout=1": 500 * time.Millisecond, "timeout=0": time.Millisecond, "timeout=-1": -1, "timeout": -1, "max=5": -1, "": -1, "timeout=5.5": -1,
	} {
		got, ok := announced(&http.Response{ProtoMajor: 1, Header: http.Header{"Keep-Alive": {header}}})
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q is %v, %t", header, got, ok)
		}
	}
	if _, ok := announced(&http.Response{ProtoMajor: 2, Header: http.Header{"Keep-Alive": {"timeout=5"}}}); ok {
		t.Error("it has a meaning in HTTP/2")
	}
}
