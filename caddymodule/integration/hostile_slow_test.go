package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// TestSlowSenders has senders of every protocol that never finish: each is told so within ack_within, and others are
// answered all the while.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.startWith("timeouts {\n read_header 1s\n idle 1s\n}", `relay /slow slow {
		ack_within 1s
		to consumer `+newConsumer(t).URL()+`
	}
	relay /vocals vocals {
		to consumer `+newConsumer(t).URL()+`
	}`)
	insecure := &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}
	h3 := &http3.Transport{TLSClientConfig: insecure, Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, g.address, c, q)
	}}
	t.Cleanup(func() { _ = h3.Close() })
	h1 := &http.Transport{TLSClientConfig: insecure.Clone()}
	h1.DialContext = g.client.Transport.(*http.Transport).DialContext
	t.Cleanup(h1.CloseIdleConnections)

	var slow sync.WaitGroup
	for protocol, transport := range map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2.0": g.client.Transport, "HTTP/3.0": h3} {
		slow.Go(func() {
			body, withheld := io.Pipe()
			defer withheld.Close()
			go func() { _, _ = io.WriteString(withheld, "{") }()
			req, err := http.NewRequest(http.MethodPost, "https://localhost/slow", body)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			start := time.Now()
			res, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
			if err != nil {
				t.Errorf("%s: %v", protocol, err)
				return
			}
			defer res.Body.Close()
			// ack_within and what a busy machine adds on the way.
			if took := time.Since(start); res.Proto != protocol || res.StatusCode != http.StatusRequestTimeout || took > 3*time.Second {
				t.Errorf("%s: answered %d over %s after %s", protocol, res.StatusCode, res.Proto, took)
			}
		})
	}
	for name, head := range map[string]string{
		"http/1.1": "POST /slow HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
		"h2":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x01\x00\x01\x00\x00\x00\x00\x01",
	} {
		conn := g.dial(name)
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		slow.Go(func() {
			start := time.Now()
			_, err := io.Copy(io.Discard, conn)
			if took := time.Since(start); took > patience/2 {
				t.Errorf("half a head over %s holds its connection for %s: %v", name, took, err)
			}
		})
	}
	g.slowHeadOverQUIC(insecure)
	for n := range 20 {
		g.accept("/vocals", callback(t, fmt.Sprint("task-", n)))
	}
	slow.Wait()
	if events := g.events(nil); len(events) != 20 {
		t.Errorf("%d events of 20 callbacks", len(events))
	}
}

// slowHeadOverQUIC opens streams that never get beyond the first byte of their heads.
func (g *gateway) slowHeadOverQUIC(config *tls.Config) {
	g.t.Helper()
	config = config.Clone()
	config.NextProtos = []string{http3.NextProtoH3}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	g.t.Cleanup(cancel)
	conn, err := quic.DialAddr(ctx, g.address, config, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	for range 50 {
		stream, err := conn.OpenStreamSync(ctx)
		if err != nil {
			g.t.Fatal(err)
		}
		if _, err := stream.Write([]byte{0x01}); err != nil { // the type of a frame of headers
			g.t.Fatal(err)
		}
	}
}

// TestManyAtOnce sends 4,096 callbacks at once. Each is answered, and what is answered by 200 is an event.
func TestManyAtOnce(t *testing.T) {
	const callbacks = 4096
	g := newGateway(t)
	c := newConsumer(t)
	g.start("relay /vocals vocals {\n to consumer " + c.URL() + " {\n max_in_flight 64\n}\n}")
	body := callback(t, "{task}")
	var (
		senders sync.WaitGroup
		mu      sync.Mutex
		events  = map[string]bool{}
		refused int
	)
	start := make(chan struct{})
	for n := range callbacks {
		senders.Go(func() {
			<-start
			a, err := g.try("/vocals", strings.Replace(body, "{task}", fmt.Sprint("task-", n), 1))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Errorf("callback %d: %v", n, err)
			case a.status == http.StatusOK && a.eventID() != "":
				events[a.eventID()] = true
			case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
				refused++
			default:
				t.Errorf("callback %d: %+v", n, a)
			}
		})
	}
	begun := time.Now()
	close(start)
	senders.Wait()
	t.Logf("%d accepted, %d refused, after %s", len(events), refused, time.Since(begun))
	if len(events)+refused != callbacks || len(events) == 0 {
		t.Errorf("%d events and %d refusals of %d callbacks", len(events), refused, callbacks)
	}
	for _, r := range c.waitFor(len(events)) {
		if !events[r.event()] {
			t.Fatalf("the consumer got an event that no sender was told of: %s", r.event())
		}
		delete(events, r.event())
	}
	if len(events) > 0 {
		t.Errorf("%d events that were answered did not arrive", len(events))
	}
}
