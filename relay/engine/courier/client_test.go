package courier

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// client is one of the transports, all of which have to pass the same tests.
type client string

const (
	lean    client = "lean"
	general client = "general" // net/http's, as Caddy provides it
)

var clients = []client{lean, general}

// forClients runs a test with each client.
func forClients(t *testing.T, test func(*testing.T, client)) {
	t.Helper()
	for _, k := range clients {
		t.Run(string(k), func(t *testing.T) { test(t, k) })
	}
}

// to returns a destination with connections of its own, which trusts every certificate.
func (k client) to(tb testing.TB, target string) *relay.Destination {
	tb.Helper()
	return k.over(tb, target, &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 16, DisableCompression: true,
	}, 0)
}

// over returns a destination whose connections are opened as base would.
func (k client) over(tb testing.TB, target string, base *http.Transport, idle time.Duration) *relay.Destination {
	tb.Helper()
	u, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	var transport closingTransport = NewConnections(base, idle)
	if k == lean {
		if transport, err = NewLean(base, u, idle); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(transport.CloseIdleConnections)
	return &relay.Destination{URL: u, Timeout: 15 * time.Second, Transport: transport}
}

type closingTransport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// setClock replaces the clock of a client that has no connections yet.
func setClock(transport http.RoundTripper, now func() time.Time) {
	switch c := transport.(type) {
	case *Lean:
		c.now = now
	case *Connections:
		c.now = now
		c.current.Store(c.generation(c.idle))
	}
}
