package courier

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// blackHole relays connections to a server until they are frozen: those that are open then stay so, and stay silent.
type blackHole struct {
	mu     sync.Mutex
	frozen chan struct{} // of the connections that are opened now
	opened atomic.Int64
}

func (b *blackHole) freeze() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.frozen)
	b.frozen = make(chan struct{})
}

func (b *blackHole) listen(tb testing.TB, to string) string {
	tb.Helper()
	b.frozen = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	address := listen(tb, func(c net.Conn) {
		b.opened.Add(1)
		b.mu.Lock()
		frozen := b.frozen
		b.mu.Unlock()
		server, err := net.Dial("tcp", to)
		if err != nil {
			tb.Error(err)
			return
		}
		forward := func(to, from net.Conn) {
			buffer := make([]byte, 4096)
			for {
				n, err := from.Read(buffer)
				select {
				case <-frozen:
					<-ctx.Done()
					return
				default:
				}
				if err == nil {
					_, err = to.Write(buffer[:n])
				}
				if err != nil {
					_, _ = to.Close(), from.Close()
					return
				}
			}
		}
		defer context.AfterFunc(ctx, func() { _, _ = c.Close(), server.Close() })()
		var group sync.WaitGroup
		group.Go(func() { forward(server, c) })
		group.Go(func() { forward(c, server) })
		group.Wait()
		_ = server.Close()
	})
	tb.Cleanup(cancel) // before the listener waits for its connections
	return address
}

// TestSilentDeath lets the way to a consumer swallow everything on the connections that are open.
func TestSilentDeath(t *testing.T) {
	handler := func(http.ResponseWriter, *http.Request) {}
	t.Run("HTTP/2, by timeouts", func(t *testing.T) {
		t.Parallel()
		var hole blackHole
		address := hole.listen(t, serveHTTP2(t, handler).Listener.Addr().String())
		dst, _ := destination(t, "https://"+address)
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		hole.freeze()
		timeout := dst.Timeout
		dst.Timeout = 300 * time.Millisecond
		for range suspiciousTimeouts {
			if a := attempt(t, dst, "{}"); a.Error != "waiting for the response: timeout after 300ms" {
				t.Fatalf("status %d, error %q", a.Status, a.Error)
			}
		}
		dst.Timeout = timeout
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		if hole.opened.Load() != 2 {
			t.Errorf("%d connections", hole.opened.Load())
		}
	})
	t.Run("HTTP/2, by ping", func(t *testing.T) {
		t.Parallel()
		var hole blackHole
		address := hole.listen(t, serveHTTP2(t, handler).Listener.Addr().String())
		dst, _ := destinationOver(t, "https://"+address, &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
			HTTP2: &http.HTTP2Config{SendPingTimeout: 200 * time.Millisecond, PingTimeout: 2 * time.Second},
		})
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
		hole.freeze()
		wantStatus(t, attempt(t, dst, "{}"), http.StatusOK) // repeated at once when the connection is given up
		if hole.opened.Load() != 2 {
			t.Errorf("%d connections", hole.opened.Load())
		}
	})
	h2 := NewConnections(&http.Transport{}, 0).current.Load().transport.HTTP2
	if sum := h2.SendPingTimeout + h2.PingTimeout; h2.SendPingTimeout == 0 || h2.PingTimeout == 0 || sum > 30*time.Second {
		t.Errorf("a silent connection is given up after %v", sum)
	}
}

func TestSilentDeathOfHTTP1(t *testing.T) { forClients(t, testSilentDeathOfHTTP1) }

func testSilentDeathOfHTTP1(t *testing.T, k client) {
	server, _ := counted(t, false, func(http.ResponseWriter, *http.Request) {})
	var hole blackHole
	address := hole.listen(t, server.Listener.Addr().String())
	dst := k.to(t, "http://"+address)
	wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
	hole.freeze()
	timeout := dst.Timeout
	dst.Timeout = 300 * time.Millisecond
	if a := attempt(t, dst, "{}"); a.Error != "waiting for the response: timeout after 300ms" {
		t.Fatalf("status %d, error %q", a.Status, a.Error)
	}
	dst.Timeout = timeout
	wantStatus(t, attempt(t, dst, "{}"), http.StatusOK)
}
