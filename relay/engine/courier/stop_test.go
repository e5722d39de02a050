package courier

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestEarlyAnswerOnAnOpenConnection answers without reading a large body, and neither reads it nor hangs up afterwards.
func TestEarlyAnswerOnAnOpenConnection(t *testing.T) {
	forClients(t, testEarlyAnswerOnAnOpenConnection)
}

func testEarlyAnswerOnAnOpenConnection(t *testing.T, k client) {
	wait := make(chan struct{})
	address := listen(t, func(c net.Conn) {
		_ = readHeader(bufio.NewReader(c))
		_, _ = c.Write([]byte(ok))
		<-wait
	})
	dst := k.to(t, "http://"+address)
	for range 3 {
		if a := attempt(t, dst, strings.Repeat("x", 16<<20)); a.Status != http.StatusOK || a.Duration > 10*time.Second {
			t.Errorf("status %d, error %q after %v", a.Status, a.Error, a.Duration)
		}
	}
	close(wait)
}

// TestConnecting fails when it lasts too long, or the engine ends it.
func TestConnecting(t *testing.T) { forClients(t, testConnecting) }

func testConnecting(t *testing.T, k client) {
	dialling := make(chan struct{}, 1)
	dst := k.over(t, "http://billing.example", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialling <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}, 0)
	dst.Timeout = 50 * time.Millisecond
	if a := attempt(t, dst, "{}"); a.Error != "connecting: timeout after 50ms" || a.Released {
		t.Errorf("error %q, released %t", a.Error, a.Released)
	}
	<-dialling
	dst.Timeout = time.Minute
	ctx, cancel := cancelled(t)
	var group sync.WaitGroup
	group.Go(func() { <-dialling; cancel() })
	if a := New("", new(Tracing)).Attempt(ctx, dst, leased(nil)); a.Error != "connecting: context canceled" || !a.Released {
		t.Errorf("error %q, released %t", a.Error, a.Released)
	}
	group.Wait()
}

// TestSilentHandshake lets TLS wait for an answer that does not come.
func TestSilentHandshake(t *testing.T) { forClients(t, testSilentHandshake) }

func testSilentHandshake(t *testing.T, k client) {
	dst := k.over(t, "https://"+listen(t, hang), &http.Transport{TLSHandshakeTimeout: 50 * time.Millisecond}, 0)
	if a := attempt(t, dst, "{}"); a.Error != "connecting: timeout" {
		t.Errorf("error %q", a.Error)
	}
	dst = k.to(t, "https://"+listen(t, hang))
	dst.Timeout = 50 * time.Millisecond
	if a := attempt(t, dst, "{}"); a.Error != "connecting: timeout after 50ms" {
		t.Errorf("error %q", a.Error)
	}
}

// TestReleaseOfMany ends the engine's context while attempts wait on kept connections. Others go on afterwards.
func TestReleaseOfMany(t *testing.T) { forClients(t, testReleaseOfMany) }

func testReleaseOfMany(t *testing.T, k client) {
	const many = 8
	var silent atomic.Bool
	arrived := make(chan struct{}, many)
	address := listen(t, func(c net.Conn) {
		for r := bufio.NewReader(c); readRequest(r); {
			if silent.Load() {
				arrived <- struct{}{}
				hang(c)
				return
			}
			_, _ = c.Write([]byte(ok))
		}
	})
	dst := k.to(t, "http://"+address)
	ctx, cancel := cancelled(t)
	all := func(check func(*Answer)) {
		var group sync.WaitGroup
		for range many {
			group.Go(func() { check(New("", new(Tracing)).Attempt(ctx, dst, leased([]byte("{}")))) })
		}
		if silent.Load() {
			for range many {
				<-arrived
			}
			cancel()
		}
		group.Wait()
	}
	all(func(a *Answer) {
		if a.Status != http.StatusOK || string(a.Response) != "ok" {
			t.Errorf("status %d, error %q", a.Status, a.Error)
		}
	})
	silent.Store(true)
	all(func(a *Answer) {
		if !a.Released || a.Error != "waiting for the response: context canceled" || a.Duration > 10*time.Second {
			t.Errorf("released %t, error %q after %v", a.Released, a.Error, a.Duration)
		}
	})
	silent.Store(false)
	ctx = t.Context()
	for range 3 {
		all(func(a *Answer) {
			if a.Status != http.StatusOK || a.Error != "" {
				t.Errorf("status %d, error %q", a.Status, a.Error)
			}
		})
	}
}

// TestKeptConnections are as many as are allowed, and none once the client is told to close them.
func TestKeptConnections(t *testing.T) { forClients(t, testKeptConnections) }

func testKeptConnections(t *testing.T, k client) {
	const many = 4
	var together sync.WaitGroup
	together.Add(many)
	server, counter := counted(t, false, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/together" {
			together.Done()
			together.Wait()
		}
	})
	dst := k.over(t, server.URL+"/together", &http.Transport{MaxIdleConnsPerHost: 2}, 0)
	var group sync.WaitGroup
	for range many {
		group.Go(func() { wantAnswer(t, attempt(t, dst, "{}")) })
	}
	group.Wait()
	counter.awaitClosed(t, many-2)
	dst.URL = dst.URL.JoinPath("..")
	for range 3 {
		wantAnswer(t, attempt(t, dst, "{}"))
	}
	if counter.opened.Load() != many {
		t.Errorf("%d connections were opened", counter.opened.Load())
	}
	dst.Transport.(closingTransport).CloseIdleConnections()
	counter.awaitClosed(t, many)
}

// wantAnswer is wantStatus for any goroutine.
func wantAnswer(tb testing.TB, a *Answer) {
	tb.Helper()
	if a.Status != http.StatusOK || a.Error != "" {
		tb.Errorf("status %d, error %q", a.Status, a.Error)
	}
}

// TestLeanStopsReading ends the engine's context after the status has been read, on the way that attempts take.
func TestLeanStopsReading(t *testing.T) {
	address := listen(t, func(c net.Conn) {
		_ = readHeader(bufio.NewReader(c))
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"))
		hang(c)
	})
	dst := lean.to(t, "http://"+address)
	ctx, cancel := cancelled(t)
	bounds := within(ctx, dst, time.Now())
	res, err := New("", new(Tracing)).send(bounds.ctx, dst, leased([]byte("{}")), time.Now(), "")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	bounds.boundBody(res)
	start := time.Now()
	if b, err := readBody(res.Body); string(b) != "abc" || !isTimeout(err) || time.Since(start) > bodyWithin {
		t.Errorf("%q, error %v after %v", b, err, time.Since(start))
	}
	_ = res.Body.Close()
}
