package caddymodule

import (
	"bytes"
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// sendTo posts to a destination with the given transport, outside reverse_proxy.
func sendTo(t *testing.T, target, transport string) (*http.Response, error) {
	t.Helper()
	return sendThrough(t, destinationAt(t, target, transport))
}

// destinationAt returns a destination with the given transport.
func destinationAt(t *testing.T, target, transport string) *relay.Destination {
	t.Helper()
	config := `{"source":"a","destinations":[{"url":"` + target + `"`
	if transport != "" {
		config += `,"transport":` + transport
	}
	return build(t, config+`}]}`).Destinations[0]
}

// sendThrough posts over the connections that a destination keeps.
func sendThrough(t *testing.T, d *relay.Destination) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.URL.String(), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return d.Transport.RoundTrip(r)
}

// sendError returns why nothing arrives.
func sendError(t *testing.T, target string) error {
	t.Helper()
	resp, err := sendTo(t, target, "")
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// TestTransport sends what arrives as it was meant: no redirect followed, no compression that nobody asked for.
func TestTransport(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
		if v := r.Header.Get("Accept-Encoding"); v != "" {
			t.Errorf("Accept-Encoding: %s", v)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	for _, transport := range []string{"", `{"protocol":"http"}`, `{"protocol":"http","compression":false}`} {
		res, err := sendTo(t, server.URL, transport)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusTemporaryRedirect {
			t.Errorf("status %d", res.StatusCode)
		}
	}
}

// TestTransportTLS dials with a server name that is a placeholder.
func TestTransportTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.ServerName != "example.com" {
			t.Errorf("server name %q", r.TLS.ServerName)
		}
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	t.Setenv("SERVER_NAME", "example.com")
	res, err := sendTo(t, server.URL, `{"protocol":"http","tls":{"server_name":"{env.SERVER_NAME}","ca":{"provider":"file","pem_files":["`+ca+`"]}}}`)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

func TestTransportUnknownServerName(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	h := &Handler{Source: "a", Destinations: []*Destination{{
		URL: "https://billing.example.com/", TransportRaw: []byte(`{"protocol":"http","tls":{"server_name":"{env.RELAY_UNSET}"}}`),
	}}}
	if _, err := h.build(ctx); err == nil || !strings.Contains(err.Error(), "tls_server_name: the environment variable RELAY_UNSET is not set") {
		t.Errorf("error %v", err)
	}
}

// TestTransportIdle keeps connections for as long as the operator says, or else as the consumer announces.
func TestTransportIdle(t *testing.T) {
	for transport, want := range map[string]int64{
		"": 2,
		`{"protocol":"http","keep_alive":{"probe_interval":"10s"}}`: 2,
		`{"protocol":"http","keep_alive":{"idle_timeout":"1m"}}`:    1,
	} {
		var opened atomic.Int64
		closed := make(chan struct{}, 10)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Keep-Alive", "timeout=0")
		}))
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				opened.Add(1)
			case http.StateClosed:
				closed <- struct{}{}
			}
		}
		server.Start()
		mustSend := func(d *relay.Destination) {
			res, err := sendThrough(t, d)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
		}
		tested := destinationAt(t, server.URL, transport)
		mustSend(tested)
		// A connection that is younger and obeys the announcement shows when the time has come to close both.
		mustSend(destinationAt(t, server.URL, ""))
		for range want {
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Fatalf("transport %s: the connections are kept", transport)
			}
		}
		mustSend(tested)
		if got := opened.Load() - 1; got != want {
			t.Errorf("transport %s: %d connections were opened, want %d", transport, got, want)
		}
		server.Close()
	}
}

// TestTransportUnloaded closes the idle connections of a configuration that is gone.
func TestTransportUnloaded(t *testing.T) {
	closed := make(chan struct{})
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	}
	server.Start()
	defer server.Close()
	t.Run("loaded", func(t *testing.T) {
		res, err := sendTo(t, server.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	})
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("its connection is still open")
	}
}

// TestTransportVersions speaks what Caddy's transport would.
func TestTransportVersions(t *testing.T) {
	for name, test := range map[string]struct {
		tls   bool
		field string
		want  int
	}{
		"default":        {true, ``, 2},
		"only HTTP/1.1":  {true, `,"versions":["1.1"]`, 1},
		"without TLS":    {false, ``, 1},
		"h2c":            {false, `,"versions":["h2c"]`, 2},
		"h2c, with TLS":  {true, `,"versions":["h2c","2"]`, 2},
		"no connections": {true, `,"keep_alive":{"enabled":false}`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(200 + r.ProtoMajor)
			}))
			server.EnableHTTP2 = true
			transport := `{"protocol":"http"` + test.field
			if test.tls {
				server.StartTLS()
				transport += `,"tls":{"insecure_skip_verify":true}`
			} else {
				server.Config.Protocols = new(http.Protocols)
				server.Config.Protocols.SetHTTP1(true)
				server.Config.Protocols.SetUnencryptedHTTP2(true)
				server.Start()
			}
			defer server.Close()
			res, err := sendTo(t, server.URL, transport+"}")
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if got := res.StatusCode - 200; got != test.want {
				t.Errorf("the request came by HTTP/%d", got)
			}
		})
	}
}

// TestTransportErrors has no addresses in them, although Caddy hides the error of its dialer.
func TestTransportErrors(t *testing.T) {
	for target, want := range map[string]string{
		"http://127.0.0.1:1/?token=s3cret":      "connecting: connection refused",
		"https://127.0.0.1:1/?token=s3cret":     "connecting: connection refused",
		"http://billing.invalid./?token=s3cret": "connecting: looking up billing.invalid.: ",
	} {
		if err := sendError(t, target); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestTransportProxy(t *testing.T) {
	var proxied string
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proxied = r.URL.String() }))
	defer proxy.Close()
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	res, err := sendTo(t, "http://billing.example.com/hook", `{"protocol":"http","network_proxy":{"from":"url","url":"http://`+u.Host+`"}}`)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if proxied != "http://billing.example.com/hook" {
		t.Errorf("the proxy got %q", proxied)
	}
}

// TestTransportEnvironmentProxy runs in a process of its own, since the environment is read only once in each.
func TestTransportEnvironmentProxy(t *testing.T) {
	if os.Getenv("RELAY_TEST_CHILD") == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTransportEnvironmentProxy$")
		child.Env = append(os.Environ(), "RELAY_TEST_CHILD=1", "HTTP_PROXY=http://me:s3cret@127.0.0.1:1", "NO_PROXY=direct.example.com")
		out, err := child.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if n := bytes.Count(out, []byte("destination is reached through a proxy")); n != 1 || bytes.Contains(out, []byte("s3cret")) {
			t.Errorf("%d lines name the proxy, in\n%s", n, out)
		}
		return
	}
	err := sendError(t, "http://billing.example.com/?token=s3cret")
	if want := "through the proxy 127.0.0.1:1: connecting: connection refused"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	build(t, `{"source":"a","destinations":[{"url":"http://direct.example.com"}]}`)
	build(t, `{"source":"a","destinations":[{"url":"http://billing.example.com","transport":{"protocol":"http","network_proxy":{"from":"url","url":"http://127.0.0.1:2"}}}]}`)
}
