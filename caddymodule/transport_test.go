package caddymodule

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// sendTo posts to a destination with the given transport, outside reverse_proxy.
func sendTo(t *testing.T, target, transport string) (*http.Response, error) {
	t.Helper()
	config := `{"source":"a","destinations":[{"url":"` + target + `"`
	if transport != "" {
		config += `,"transport":` + transport
	}
	src := build(t, config+`}]}`)
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, target, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return src.Destinations[0].Transport.RoundTrip(r)
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

// TestTransportTLS dials with a server name that is a placeholder, which needs a replacer in the request's context.
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
