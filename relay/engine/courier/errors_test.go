package courier

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

const secretPath = "/hook?token=s3cret"

// closedAddress returns one that refuses connections.
func closedAddress(tb testing.TB) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	_ = listener.Close()
	return listener.Addr().String()
}

// echo answers with what it was sent.
func echo(before string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		if err == nil && readHeader(r) == nil {
			_, _ = c.Write([]byte(before + line + "\r\n\r\n"))
		}
	}
}

// TestSentences provokes what may go wrong with real servers.
func TestSentences(t *testing.T) { forClients(t, testSentences) }

func testSentences(t *testing.T, k client) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()
	plainServer := httptest.NewServer(http.NotFoundHandler())
	defer plainServer.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for name, test := range map[string]struct {
		url  string
		tls  *tls.Config
		want string
	}{
		"refused":            {url: "http://" + closedAddress(t), want: "connecting: connection refused"},
		"unknown authority":  {url: server.URL, want: "connecting: the certificate is signed by an unknown authority"},
		"another name":       {url: server.URL, tls: &tls.Config{RootCAs: pool, ServerName: "billing.test"}, want: "connecting: the certificate is not valid for billing.test"},
		"expired":            {url: server.URL, tls: &tls.Config{RootCAs: pool, Time: func() time.Time { return time.Unix(1e11, 0) }}, want: "connecting: the certificate is not valid: certificate has expired or is not yet valid: current time 5138-11-16T09:46:40Z is after 2084-01-29T16:00:00Z"},
		"TLS version":        {url: server.URL, tls: &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, RootCAs: pool}, want: "connecting: tls: protocol version not supported"},
		"HTTP for HTTPS":     {url: strings.Replace(plainServer.URL, "http:", "https:", 1), want: "connecting: the server does not speak TLS"},
		"no HTTP":            {url: "http://" + listen(t, echo("")), want: "waiting for the response: malformed HTTP status code"},
		"no status":          {url: "http://" + listen(t, echo("HTTP/1.1 ")), want: "waiting for the response: malformed HTTP status code"},
		"no header":          {url: "http://" + listen(t, echo("HTTP/1.1 200 OK\r\nx")), want: "waiting for the response: malformed MIME header"},
		"no header's sequel": {url: "http://" + listen(t, echo("HTTP/1.1 200 OK\r\n ")), want: "waiting for the response: malformed MIME header initial line"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := k.over(t, test.url+secretPath, &http.Transport{TLSClientConfig: test.tls}, 0)
			a := attempt(t, dst, "{}")
			if a.Error != test.want || a.Status != 0 {
				t.Errorf("status %d, error %q", a.Status, a.Error)
			}
		})
	}
}

// TestProxy blames the proxy for what it refuses, and keeps its credentials to itself.
func TestProxy(t *testing.T) {
	refusing := func(status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	closed, silent := closedAddress(t), listen(t, hang)
	unauthorized, bad, hangsUp := refusing(http.StatusProxyAuthRequired), refusing(http.StatusBadGateway), listen(t, func(c net.Conn) { _ = readHeader(bufio.NewReader(c)) })
	for name, test := range map[string]struct {
		proxy, scheme string
		status        int
		want          string
	}{
		"refused":                  {closed, "http", 0, "through the proxy " + closed + ": connecting: connection refused"},
		"refused, TLS":             {closed, "https", 0, "through the proxy " + closed + ": connecting: connection refused"},
		"silent":                   {silent, "https", 0, "through the proxy " + silent + ": connecting: timeout after 500ms"},
		"hangs up":                 {hangsUp, "https", 0, "through the proxy " + hangsUp + ": connecting: the connection was closed"},
		"credentials":              {unauthorized, "http", 0, "through the proxy " + unauthorized + ": refused with 407 Proxy Authentication Required"},
		"credentials, TLS":         {unauthorized, "https", 0, "through the proxy " + unauthorized + ": refused with 407 Proxy Authentication Required"},
		"bad gateway, TLS":         {bad, "https", 0, "through the proxy " + bad + ": refused with 502 Bad Gateway"},
		"the consumer's, it seems": {bad, "http", http.StatusBadGateway, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dst, _ := destinationOver(t, test.scheme+"://billing.example"+secretPath, &http.Transport{
				Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: test.proxy, User: url.UserPassword("me", "s3cret")}),
			})
			dst.Timeout = 500 * time.Millisecond
			if a := attempt(t, dst, "{}"); a.Status != test.status || a.Error != test.want {
				t.Errorf("status %d, error %q", a.Status, a.Error)
			}
		})
	}
	t.Run("a consumer's 407 without any", func(t *testing.T) {
		dst, _ := destination(t, "http://"+unauthorized)
		wantStatus(t, attempt(t, dst, "{}"), http.StatusProxyAuthRequired)
	})
	t.Run("no URL", func(t *testing.T) {
		dst, _ := destinationOver(t, "http://billing.example"+secretPath, &http.Transport{
			Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New(`invalid proxy address "x:s3cret@y"`) },
		})
		if a := attempt(t, dst, "{}"); a.Error != "connecting: invalid proxy address" {
			t.Errorf("error %q", a.Error)
		}
	})
}

// TestForeignTransport is told about by its error alone.
func TestForeignTransport(t *testing.T) {
	dst, _ := destination(t, "http://billing.example"+secretPath)
	dst.Timeout = 50 * time.Millisecond
	dst.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	if a := attempt(t, dst, "{}"); a.Error != "timeout after 50ms" {
		t.Errorf("error %q", a.Error)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a := New("", new(Tracing)).Attempt(ctx, dst, leased(nil)); !a.Released || a.Status != 0 {
		t.Errorf("released %t, status %d", a.Released, a.Status)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
