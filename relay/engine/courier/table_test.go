package courier

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestAnswers reads, on kept connections too, what consumers may answer.
func TestAnswers(t *testing.T) { forClients(t, testAnswers) }

func testAnswers(t *testing.T, k client) {
	const limit = 8 << 10
	long := strings.Repeat("x", keptBody)
	for name, test := range map[string]struct {
		answer   string
		status   int
		response string
		err      string
		conns    int64 // for three attempts
	}{
		"100 before":       {"HTTP/1.1 100 Continue\r\n\r\n" + ok, 200, "ok", "", 1},
		"103 before":       {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ok, 200, "ok", "", 1},
		"101":              {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101, "", "", 3},
		"chunked":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", 200, "ok", "", 1},
		"trailers":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", 200, "ok", "", 1},
		"no content":       {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", "", 1},
		"not modified":     {"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, "", "", 1},
		"redirect":         {"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 307, "", "", 1},
		"closing":          {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "", 3},
		"HTTP/1.0":         {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "", 3},
		"HTTP/1.0, kept":   {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "", 1},
		"no reason":        {"HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", 299, "", "", 1},
		"bare line feeds":  {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok", "", 1},
		"more than kept":   {"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("x", 60000), 200, long, "", 1},
		"exactly kept":     {"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + long, 200, long, "", 1},
		"more than read":   {"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + strings.Repeat("x", 99999), 200, long, "", 3},
		"more than it is":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200, "ok", "", 3},
		"gzip":             {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "", 1},
		"two lengths":      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0, "", "waiting for the response: message cannot contain multiple Content-Length headers", 3},
		"two equal ones":   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "", 1},
		"no length":        {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok", 0, "", "waiting for the response: bad Content-Length", 3},
		"unknown encoding": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nok", 0, "", "waiting for the response: unsupported transfer encoding", 3},
		"long header":      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + strings.Repeat("x", limit/2) + "\r\n\r\nok", 200, "ok", "", 1},
		"too long header":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + strings.Repeat("x", limit) + "\r\n\r\nok", 0, "", "waiting for the response: server response headers exceeded 8192 bytes", 3},
		"endless interim":  {strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n", limit/20) + ok, 0, "", "waiting for the response: server response headers exceeded 8192 bytes", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int64
			address := listen(t, func(c net.Conn) {
				conns.Add(1)
				for r := bufio.NewReader(c); readRequest(r); {
					_, _ = c.Write([]byte(test.answer))
				}
			})
			dst := k.over(t, "http://"+address, &http.Transport{MaxResponseHeaderBytes: limit, DisableCompression: true}, 0)
			for range 3 {
				a := attempt(t, dst, "{}")
				if a.Status != test.status || a.Error != test.err || string(a.Response) != test.response {
					t.Errorf("status %d, error %q, response %.20q of %d bytes", a.Status, a.Error, a.Response, len(a.Response))
				}
			}
			if conns.Load() != test.conns {
				t.Errorf("%d connections, want %d", conns.Load(), test.conns)
			}
		})
	}
}

// TestAnswerWithoutRequest gets one on an idle connection, as load balancers send before they close it. It is nobody's.
// net/http may take it for the next request's answer, if that request is quick to take the connection.
func TestAnswerWithoutRequest(t *testing.T) {
	var conns atomic.Int64
	address := listen(t, func(c net.Conn) {
		conns.Add(1)
		if readRequest(bufio.NewReader(c)) {
			_, _ = c.Write([]byte(ok + "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"))
		}
	})
	dst := lean.to(t, "http://"+address)
	for range 5 {
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
	}
	if conns.Load() != 5 {
		t.Errorf("%d connections", conns.Load())
	}
}

// TestHeaders refuses what would smuggle headers, or another request, into one.
func TestHeaders(t *testing.T) { forClients(t, testHeaders) }

func testHeaders(t *testing.T, k client) {
	var requests, conns atomic.Int64
	var last http.Header
	address := listen(t, func(c net.Conn) {
		conns.Add(1)
		r := bufio.NewReader(c)
		for req, err := http.ReadRequest(r); err == nil; req, err = http.ReadRequest(r) {
			_, _ = io.Copy(io.Discard, req.Body)
			requests.Add(1)
			last = req.Header
			_, _ = c.Write([]byte(ok))
		}
	})
	dst := k.to(t, "http://"+address)
	wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
	for _, value := range []string{"a\r\nX: y", "a\nX: y", "a\x00"} {
		d := leased([]byte("{}"))
		d.Event.TaskID = value
		a := New("", new(Tracing)).Attempt(t.Context(), dst, d)
		if a.Status != 0 || a.Error != "connecting: invalid header field value for" {
			t.Errorf("%q: status %d, error %q", value, a.Status, a.Error)
		}
	}
	dst.Header = http.Header{"X: y\r\nZ": {"a"}}
	if a := attempt(t, dst, "{}"); a.Status != 0 || a.Error != "connecting: invalid header field name" {
		t.Errorf("status %d, error %q", a.Status, a.Error)
	}
	dst.Header = http.Header{"X": {" a ", "b"}, "Y": {"\u00e9"}, "User-Agent": {""}}
	wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
	if _, sent := last["User-Agent"]; sent || !slices.Equal(last["X"], []string{"a", "b"}) || last.Get("Y") != "\u00e9" {
		t.Errorf("the last request had %v", last)
	}
	if requests.Load() != 2 || conns.Load() > 2 {
		t.Errorf("%d requests on %d connections", requests.Load(), conns.Load())
	}
}

// TestHosts names the host as the URL does, in the ways a URL can name one.
func TestHosts(t *testing.T) { forClients(t, testHosts) }

func testHosts(t *testing.T, k client) {
	for _, test := range []struct{ url, dialled, host string }{
		{"http://billing.example/hook", "billing.example:80", "billing.example"},
		{"https://billing.example/hook", "billing.example:443", "billing.example"},
		{"http://billing.example:8080", "billing.example:8080", "billing.example:8080"},
		{"http://[::1]/hook", "[::1]:80", "[::1]"},
		{"http://[::1]:8080/hook", "[::1]:8080", "[::1]:8080"},
		{"http://[fe80::1%25eth0]:8080/hook", "[fe80::1%eth0]:8080", "[fe80::1]:8080"},
		{"http://b\u00fccher.example/hook", "xn--bcher-kva.example:80", "xn--bcher-kva.example"},
	} {
		var host string
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host = r.Host })
		server := httptest.NewUnstartedServer(handler)
		if strings.HasPrefix(test.url, "https") {
			server.StartTLS()
		} else {
			server.Start()
		}
		var dialled string
		dst := k.over(t, test.url, &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				dialled = address
				return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
			},
		}, 0)
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		server.Close()
		if dialled != test.dialled || host != test.host {
			t.Errorf("%s: %s was dialled for host %s", test.url, dialled, host)
		}
	}
}

// TestIPv6 reaches a consumer by its address.
func TestIPv6(t *testing.T) { forClients(t, testIPv6) }

func testIPv6(t *testing.T, k client) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6: ", err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Listener = listener
	server.Start()
	defer server.Close()
	wantStatus(t, attempt(t, k.to(t, "http://"+listener.Addr().String()), "{}"), http.StatusOK)
}

// TestTLS keeps connections, and verifies the name that the URL has.
func TestTLS(t *testing.T) { forClients(t, testTLS) }

func testTLS(t *testing.T, k client) {
	var conns atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.TLS.ServerName != "example.com" || r.ProtoMajor != 1 {
			t.Errorf("server name %q, %s, error %v", r.TLS.ServerName, r.Proto, err)
		}
		w.Header().Set("Length", fmt.Sprint(len(b)))
		w.WriteHeader(http.StatusAccepted)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	dst := k.over(t, "https://example.com/", &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}, 0)
	for _, size := range []int{0, 2, 100 << 10, 3 << 20} {
		wantStatus(t, attempt(t, dst, strings.Repeat("x", size)), http.StatusAccepted)
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections", conns.Load())
	}
}

// TestBody sends every byte, however long the body is.
func TestBody(t *testing.T) { forClients(t, testBody) }

func testBody(t *testing.T, k client) {
	var conns atomic.Int64
	var got string
	address := listen(t, func(c net.Conn) {
		conns.Add(1)
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			got = string(b)
			_, _ = c.Write([]byte(ok))
		}
	})
	dst := k.to(t, "http://"+address)
	for _, size := range []int{0, 1, writtenAtOnce - 600, writtenAtOnce, writtenAtOnce + 1, 1 << 20, 4 << 20} {
		body := strings.Repeat("x\r\n\x00", size/4+1)[:size]
		wantStatus(t, attempt(t, dst, body), http.StatusOK)
		if got != body {
			t.Errorf("of %d bytes came %d", size, len(got))
		}
	}
	dst.Rewrite = func(b []byte) []byte { return append([]byte("re"), b...) }
	wantStatus(t, attempt(t, dst, "written"), http.StatusOK)
	if got != "rewritten" {
		t.Errorf("of a rewritten body came %q", got)
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections", conns.Load())
	}
}

// noted is a body that notes that it was closed.
type noted struct {
	io.Reader
	closed chan struct{}
}

func (n noted) Close() error {
	close(n.closed)
	return nil
}

// TestBodyIsClosed has what http.RoundTripper promises of a request's body.
func TestBodyIsClosed(t *testing.T) { forClients(t, testBodyIsClosed) }

func testBodyIsClosed(t *testing.T, k client) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for _, url := range []string{server.URL, "http://" + closedAddress(t)} {
		body := noted{strings.NewReader("{}"), make(chan struct{})}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := k.to(t, url).Transport.RoundTrip(r); err == nil {
			_ = res.Body.Close()
		}
		select {
		case <-body.closed:
		case <-time.After(20 * time.Second):
			t.Error("the body was not closed")
		}
	}
}
