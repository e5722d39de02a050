package courier

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// destination returns one with connections of its own, which trusts every certificate.
func destination(tb testing.TB, target string) (*relay.Destination, *Connections) {
	tb.Helper()
	return destinationOver(tb, target, &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16,
	})
}

func destinationOver(tb testing.TB, target string, base *http.Transport) (*relay.Destination, *Connections) {
	tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	connections := NewConnections(base, 0)
	tb.Cleanup(connections.CloseIdleConnections)
	return &relay.Destination{URL: u, Timeout: 15 * time.Second, Transport: connections}, connections
}

func leased(body []byte) *relay.Leased {
	return &relay.Leased{Event: &relay.Event{ID: "01JDXK7Z8Q6D5V3W2N1M0P9R8T", Source: "vocals", TaskID: "task-1", Body: body}}
}

func attempt(tb testing.TB, dst *relay.Destination, body string) *Answer {
	tb.Helper()
	return New("caddy-relay/test", new(Tracing)).Attempt(tb.Context(), dst, leased([]byte(body)))
}

// wantStatus fails unless the destination took the event without any complaint.
func wantStatus(tb testing.TB, a *Answer, status int) {
	tb.Helper()
	if a.Status != status || a.Error != "" || a.Released {
		tb.Fatalf("status %d, error %q, released %t; want status %d", a.Status, a.Error, a.Released, status)
	}
}

// listen serves each connection by a function of its own goroutine. It closes them all at the end of the test.
func listen(tb testing.TB, serve func(net.Conn)) (address string) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			group.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c)
			})
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		group.Wait()
	})
	return listener.Addr().String()
}

// hang returns when the other side, or the test, closes the connection.
func hang(c net.Conn) {
	var b [4096]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
	}
}

// readHeader reads a request up to the end of its header.
func readHeader(r *bufio.Reader) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
	}
}

// serveHTTP2 starts an HTTPS server that prefers HTTP/2.
func serveHTTP2(tb testing.TB, handler http.HandlerFunc) *httptest.Server {
	tb.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	tb.Cleanup(server.Close)
	return server
}

// quiet is for servers whose clients fail on purpose.
var quiet = log.New(io.Discard, "", 0)

func cancelled(tb testing.TB) (context.Context, context.CancelFunc) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	tb.Cleanup(cancel)
	return ctx, cancel
}

// serveRaw answers every request with as little work as possible. The requests must have bodies of at most a few KiB.
func serveRaw(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		length := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				break
			}
			if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
			}
		}
		if _, err := r.Discard(length); err != nil {
			return
		}
		if _, err := c.Write([]byte(ok)); err != nil {
			return
		}
	}
}
