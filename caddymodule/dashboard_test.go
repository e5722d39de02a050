package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// newDashboard returns a provisioned dashboard beside a gateway that runs.
func newDashboard(t *testing.T) *Dashboard {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.ActiveContext())
	t.Cleanup(cancel)
	d := new(Dashboard)
	if err := d.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Cleanup() })
	return d
}

// fromHere is a request as a browser on the gateway's machine sends it.
func fromHere(method, path string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.Host, r.RemoteAddr = "localhost:8443", "127.0.0.1:50000"
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func serve(t *testing.T, d *Dashboard, r *http.Request) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := d.ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if w.Header().Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%v in %s", err, w.Body)
		}
	}
	for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"} {
		if w.Header().Get(name) == "" {
			t.Errorf("%s %s: no %s", r.Method, r.URL, name)
		}
	}
	return w, answer
}

func TestDashboard(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	g.mustLoad(`{}`, to(t, c.URL, nil))
	id := g.accept("vocals", "task-1")
	c.await(t)
	d := newDashboard(t)

	if w, _ := serve(t, d, fromHere("GET", "/")); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "<title>") {
		t.Errorf("page: status %d, %s", w.Code, w.Body)
	}
	if w, answer := serve(t, d, fromHere("GET", "/api/events/"+id)); w.Code != http.StatusOK || answer["task_id"] != "task-1" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("event: status %d, %v", w.Code, answer)
	}
	if w, answer := serve(t, d, fromHere("GET", "/api/events?task_id=task-1")); w.Code != http.StatusOK || len(answer["events"].([]any)) != 1 {
		t.Errorf("events: status %d, %v", w.Code, answer)
	}
	for _, path := range []string{"/api/", "/api/none", "/api/../status"} {
		if w, answer := serve(t, d, fromHere("GET", path)); w.Code == http.StatusOK || w.Code == http.StatusNotFound && answer["error"] != "not_found" {
			t.Errorf("%s: status %d, %v", path, w.Code, answer)
		}
	}
	if w, answer := serve(t, d, fromHere("POST", "/api/destinations/vocals/billing/pause")); w.Code != http.StatusOK || answer["paused"] != true {
		t.Errorf("pause: status %d, %v", w.Code, answer)
	}
	if w, answer := serve(t, d, fromHere("GET", "/api/destinations/vocals/billing/pause")); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET of what changes something: status %d, %v", w.Code, answer)
	}
}

// TestDashboardOrigins refuses what the pages of other sites send, reads and streams included.
func TestDashboardOrigins(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, to(t, newConsumer(t, http.StatusOK).URL, nil))
	d := newDashboard(t)
	for _, e := range []struct {
		method, site, origin string
		refused              bool
	}{
		{"GET", "same-origin", "", false},
		{"GET", "none", "", false},
		{"GET", "", "", false},
		{"GET", "same-site", "", true},
		{"GET", "cross-site", "", true},
		{"GET", "", "https://localhost:8443", false},
		{"GET", "", "http://evil.example", true}, // over plain HTTP a browser sends no more than this
		{"GET", "", "null", true},
		{"HEAD", "", "http://evil.example", true},
		{"POST", "", "", false},
		{"POST", "same-origin", "https://localhost:8443", false},
		{"POST", "", "https://localhost:8443", false},
		{"POST", "cross-site", "https://evil.example", true},
		{"POST", "same-site", "https://other.localhost:8443", true},
		{"POST", "", "https://evil.example", true},
		{"POST", "", "null", true},
	} {
		path := "/api/status"
		if e.method == "POST" {
			path = "/api/destinations/vocals/billing/resume"
		}
		r := fromHere(e.method, path)
		r.Header.Set("Sec-Fetch-Site", e.site)
		if e.origin != "" {
			r.Header.Set("Origin", e.origin)
		}
		w, answer := serve(t, d, r)
		if refused := w.Code == http.StatusForbidden && answer["error"] == "cross_origin"; refused != e.refused || !refused && w.Code != http.StatusOK {
			t.Errorf("%+v: status %d, %v", e, w.Code, answer)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%+v: other origins may read", e)
		}
	}
}

// TestDashboardWrites lets only those write whom a hostile page cannot stand in for.
func TestDashboardWrites(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, to(t, newConsumer(t, http.StatusOK).URL, nil))
	d := newDashboard(t)
	for name, e := range map[string]struct {
		change func(*http.Request)
		writes bool
	}{
		"loopback":                   {func(*http.Request) {}, true},
		"loopback, IPv6":             {func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:50000", "[::1]:8443" }, true},
		"loopback, mapped":           {func(r *http.Request) { r.RemoteAddr, r.Host = "[::ffff:127.0.0.1]:50000", "127.0.0.1" }, true},
		"no port":                    {func(r *http.Request) { r.Host = "LOCALHOST" }, true},
		"rebound name":               {func(r *http.Request) { r.Host = "evil.example:8443" }, false},
		"name that looks like it":    {func(r *http.Request) { r.Host = "localhost.evil.example" }, false},
		"no host":                    {func(r *http.Request) { r.Host = "" }, false},
		"address of the network":     {func(r *http.Request) { r.Host = "10.0.0.5" }, false},
		"peer of the network":        {func(r *http.Request) { r.RemoteAddr = "10.0.0.7:50000" }, false},
		"unix socket":                {func(r *http.Request) { r.RemoteAddr = "@" }, false},
		"behind a proxy":             {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") }, false},
		"behind another proxy":       {func(r *http.Request) { r.Header.Set("Forwarded", "for=127.0.0.1") }, false},
		"behind a proxy's Via":       {func(r *http.Request) { r.Header.Set("Via", "1.1 proxy") }, false},
		"behind nginx":               {func(r *http.Request) { r.Header.Set("X-Real-IP", "127.0.0.1") }, false},
		"behind a proxy's HTTP/1.0":  {func(r *http.Request) { r.Proto, r.ProtoMinor = "HTTP/1.0", 0 }, false},
		"behind a silent proxy":      {func(r *http.Request) { r.Header.Set("Origin", "https://hooks.example.com") }, false},
		"behind Fastly":              {func(r *http.Request) { r.Header.Set("Fastly-Client-IP", "192.0.2.1") }, false},
		"behind another balancer":    {func(r *http.Request) { r.Header.Set("X-Cluster-Client-IP", "192.0.2.1") }, false},
		"behind Envoy":               {func(r *http.Request) { r.Header.Set("X-Envoy-External-Address", "192.0.2.1") }, false},
		"behind Cloudflare":          {func(r *http.Request) { r.Header.Set("CF-Connecting-IP", "127.0.0.1") }, false},
		"authenticated, from afar":   {func(r *http.Request) { afar(r); replacer(r).Set("http.auth.user.id", "alice") }, true},
		"authenticated as nobody":    {func(r *http.Request) { afar(r); replacer(r).Set("http.auth.user.id", "") }, false},
		"verified certificate":       {func(r *http.Request) { afar(r); r.TLS.VerifiedChains = [][]*x509.Certificate{{{}}} }, true},
		"certificate nobody checked": {func(r *http.Request) { afar(r); r.TLS.PeerCertificates = []*x509.Certificate{{}} }, false},
		"from afar":                  {afar, false},
	} {
		t.Run(name, func(t *testing.T) {
			request := func(method, path string) *http.Request {
				r := fromHere(method, path)
				r.TLS = new(tls.ConnectionState)
				r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
				e.change(r)
				return r
			}
			if _, answer := serve(t, d, request("GET", "/api/access")); answer["writes"] != e.writes {
				t.Errorf("access: %v", answer)
			}
			if w, _ := serve(t, d, request("GET", "/api/status")); w.Code != http.StatusOK {
				t.Errorf("reading: status %d", w.Code)
			}
			w, answer := serve(t, d, request("POST", "/api/destinations/vocals/billing/resume"))
			if allowed := w.Code == http.StatusOK; allowed != e.writes || !allowed && answer["error"] != "read_only" {
				t.Errorf("writing: status %d, %v", w.Code, answer)
			}
		})
	}
}

// TestDashboardRebinding keeps what is stored from a page whose DNS name has been pointed at the gateway's machine.
func TestDashboardRebinding(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, to(t, newConsumer(t, http.StatusOK).URL, nil))
	d := newDashboard(t)
	evil := func(r *http.Request) { r.Host = "evil.example:8080" }
	for name, e := range map[string]struct {
		change func(*http.Request)
		reads  bool
	}{
		"rebound name":                  {evil, false},
		"rebound name, IPv6":            {func(r *http.Request) { evil(r); r.RemoteAddr = "[::1]:50000" }, false},
		"another address":               {func(r *http.Request) { r.Host = "0.0.0.0:8080" }, false},
		"a name that looks like it":     {func(r *http.Request) { r.Host = "localhost.evil.example" }, false},
		"no host":                       {func(r *http.Request) { r.Host = "" }, false},
		"localhost":                     {func(*http.Request) {}, true},
		"over TLS":                      {func(r *http.Request) { evil(r); r.TLS = new(tls.ConnectionState) }, true},
		"a header that a script sets":   {func(r *http.Request) { evil(r); r.Header.Set("X-Forwarded-For", "203.0.113.9") }, false},
		"behind a proxy with Via":       {func(r *http.Request) { evil(r); r.Header.Set("Via", "1.1 proxy") }, true},
		"behind a proxy with HTTPS":     {func(r *http.Request) { evil(r); r.Header.Set("Sec-Fetch-Site", "same-origin") }, true},
		"behind a proxy with HTTP/1.0":  {func(r *http.Request) { evil(r); r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0 }, true},
		"authenticated":                 {func(r *http.Request) { evil(r); replacer(r).Set("http.auth.user.id", "alice") }, true},
		"from another machine, by name": {func(r *http.Request) { afar(r) }, true},
	} {
		for _, path := range []string{"/api/events", "/api/stream", "/api/access"} {
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
			if path == "/api/stream" {
				cancel() // it ends at once where it is let in
			}
			r := fromHere("GET", path).WithContext(ctx)
			r.Header.Del("Sec-Fetch-Site") // which browsers send over HTTPS, and to this machine
			e.change(r)
			w, answer := serve(t, d, r)
			cancel()
			if refused := w.Code == http.StatusForbidden && answer["error"] == "foreign_host"; refused == e.reads {
				t.Errorf("%s: %s: status %d, %v", name, path, w.Code, answer)
			}
		}
	}
}

func afar(r *http.Request) { r.RemoteAddr, r.Host = "203.0.113.9:50000", "hooks.example.com" }

func replacer(r *http.Request) *caddy.Replacer {
	return r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}

// TestDashboardMount sends who leaves out the last slash to where the relative links work, and to no other host.
func TestDashboardMount(t *testing.T) {
	for original, expected := range map[string]string{
		"/":                   "",
		"/dashboard/":         "",
		"/dashboard":          "./dashboard/",
		"/any/prefix":         "./prefix/",
		"//evil.example":      "./evil.example/",
		"/a/https:%2F%2Fevil": "./evil/",
		"/a b":                "./a%20b/",
	} {
		u, err := url.Parse("https://localhost" + strings.ReplaceAll(original, " ", "%20"))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.OriginalRequestCtxKey, http.Request{URL: u}))
		if got := missingSlash(r); got != expected {
			t.Errorf("%s: got %q, expected %q", original, got, expected)
		}
	}
}

// TestDashboardShutdown ends the streams of a server that shuts down, though its app may stop before the relay's, which would
// end them as well: an open page would hold the grace period to its end.
func TestDashboardShutdown(t *testing.T) {
	g := newGateway(t)
	g.mustLoad(`{}`, to(t, "http://127.0.0.1:9", nil), map[string]any{"handler": "relay_dashboard"})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway/api/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	web, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		t.Fatal(err)
	}
	if err := web.(*caddyhttp.App).Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("the stream goes on: %v", err)
	}
}
