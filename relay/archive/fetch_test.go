package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/internal/dnstest"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/archive"
)

// Each server does what it must not; nothing half-written is left.
func TestRefused(t *testing.T) {
	audio := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "audio/mpeg") }
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		reason string
		final  bool
	}{
		"link-local": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest?secret", http.StatusFound)
		}, "its host 169.254.169.254 is not in the archive's hosts", true},
		"mapped": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://[::ffff:169.254.169.254]/secret", http.StatusFound)
		}, "its host ::ffff:169.254.169.254 is not in the archive's hosts", true},
		"redirected to another host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://other.example/secret", http.StatusTemporaryRedirect)
		}, "its host other.example is not in the archive's hosts", true},
		"redirected to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "it is not on https", true},
		"redirected astray": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://cdn.example/%zz?secret")
			w.WriteHeader(http.StatusFound)
		}, "failed to parse Location header", false},
		"malformed header": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nsecret\r\n\r\n"))
			_ = conn.Close()
		}, "malformed MIME header", false},
		"redirected for ever": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/secret", http.StatusFound)
		}, "it is redirected more than 5 times", true},
		"page": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<html>secret"))
		}, "its Content-Type is none of audio/*, video/*, image/* and application/octet-stream", false},
		"encoded": {func(w http.ResponseWriter, _ *http.Request) {
			audio(w)
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("x"))
		}, "the server sent it with a Content-Encoding", false},
		"not there": {http.NotFound, "the server answered 404", false},
		"unasked part": {func(w http.ResponseWriter, _ *http.Request) {
			audio(w)
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("56789"))
		}, "the server answered 206", false},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			audio(w)
			w.Header().Set("Content-Length", "10000000000")
			_, _ = w.Write([]byte("x"))
		}, "it is larger than 100000 bytes, the max_size", true},
		"without end": {func(w http.ResponseWriter, r *http.Request) {
			audio(w)
			for r.Context().Err() == nil {
				_, _ = w.Write(content(10_000))
			}
		}, "it is larger than 100000 bytes, the max_size", true},
		"shorter than announced": {func(w http.ResponseWriter, _ *http.Request) {
			audio(w)
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(content(600))
		}, "the connection was closed after 600 of 1000 bytes", false},
		"header stalls": {func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, "the server sent nothing for 200ms", false},
		"body stalls": {func(w http.ResponseWriter, r *http.Request) {
			audio(w)
			_, _ = w.Write(content(600))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "the server sent nothing for 200ms", false},
		"another range": {func(w http.ResponseWriter, r *http.Request) {
			audio(w)
			w.Header().Set("ETag", `"one"`)
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 0-999/1000")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(content(1000))
				return
			}
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(content(600))
		}, "the server sent another range of it than it was asked for", false},
		"another length": {func(w http.ResponseWriter, r *http.Request) {
			audio(w)
			w.Header().Set("ETag", `"one"`)
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 600-699/700")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(content(100))
				return
			}
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(content(600))
		}, "the server sent another range of it than it was asked for", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, folder := options(t)
			o.MaxSize = 100_000
			if strings.HasSuffix(name, "stalls") { // elsewhere a busy machine must not look like one
				o.Stall = 200 * time.Millisecond
			}
			url := server(t, c.handle) + "/secret.mp3"
			if reason := refused(t, o, folder, url); reason != field+": "+c.reason {
				t.Errorf("reason %q, not %q", reason, c.reason)
			}
			_, err := archive.New(o).Archive(t.Context(), event(url), nil)
			if failed, ok := errors.AsType[*relay.ArchiveError](err); !ok || failed.Final != c.final || failed.Storage {
				t.Errorf("%+v", err)
			}
		})
	}
}

func TestRefusedURL(t *testing.T) {
	for url, reason := range map[string]string{
		"http://cdn.example.com/secret":           "it is not on https",
		"https://evil.example/secret":             "its host evil.example is not in the archive's hosts",
		"https://evil\u0130.example/secret":       "its host xn--evili-cgd.example is not in the archive's hosts",
		"https://cdn.example.com.evil/secret":     "its host cdn.example.com.evil is not in the archive's hosts",
		"https://xcdn.example.com/secret":         "its host xcdn.example.com is not in the archive's hosts",
		"https://below.example/secret":            "its host below.example is not in the archive's hosts",
		"https://10.0.0.1/secret":                 "its host 10.0.0.1 is not in the archive's hosts",
		"https://[fe80::1%25eth0]/secret":         "its host fe80::1 is not in the archive's hosts",
		"https://2130706433/secret":               "its host 2130706433 is not in the archive's hosts",
		"https://user:secret@cdn.example.com/":    "its URL has credentials",
		"https:///secret":                         "its URL is malformed",
		"https://cdn.example.com:port/secret":     "its URL is malformed",
		"https://cdn.example.com@10.0.0.1/secret": "its URL has credentials",
	} {
		o, folder := options(t, "cdn.example.com", "*.below.example")
		o.Insecure = false
		if got := refused(t, o, folder, url); !strings.HasPrefix(got, field+": "+reason) {
			t.Errorf("%s: %s", url, got)
		}
	}
}

func TestParseHosts(t *testing.T) {
	if _, err := archive.ParseHosts([]string{"a.example", "*.b.example", "10.0.0.0/8", "::1", "[::1]", "1.2.3.4"}); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"", "*", "*.", "a b", "https://a.example", "a.example/x", "a.example:443", "10.0.0.0/99", "fe80::1%eth0", "a.*.example"} {
		if _, err := archive.ParseHosts([]string{s}); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// names starts a name server, and returns a resolver that asks it.
func names(t *testing.T, zone map[string][]netip.Addr) *net.Resolver {
	t.Helper()
	server, err := dnstest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	for name, addresses := range zone {
		server.Set(name, addresses...)
	}
	return server.Resolver()
}

// An address is checked when it is dialled: by the first question as well as when a name leads elsewhere at the second.
func TestRefusedAddress(t *testing.T) {
	var asked atomic.Int64
	url := server(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "audio/mpeg")
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(content(600))
	})
	_, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	o, folder := options(t, "private.example", "moves.example")
	o.Resolver = names(t, map[string][]netip.Addr{
		"private.example": {netip.MustParseAddr("169.254.169.254")},
		"moves.example":   {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.1")},
	})
	want := field + ": its host resolves to an address that is not public: "
	if got := refused(t, o, folder, "http://private.example/secret"); got != want+"169.254.169.254" {
		t.Error(got)
	}
	if got := refused(t, o, folder, "http://moves.example:"+port+"/secret"); got != want+"10.0.0.1" {
		t.Error(got)
	}
	if asked.Load() != 1 {
		t.Errorf("%d requests", asked.Load())
	}
}

// cut serves a file and closes the connection after some bytes of each answer.
type cut struct {
	file    []byte
	header  http.Header
	chunked bool // the length is not announced
	after   []int

	mu   sync.Mutex
	seen []http.Header
}

func (c *cut) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	n := len(c.seen)
	c.seen = append(c.seen, r.Header)
	c.mu.Unlock()
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Type", "video/mp4")
	maps.Copy(rec.Header(), c.header)
	http.ServeContent(rec, r, "", time.Time{}, bytes.NewReader(c.file))
	maps.Copy(w.Header(), rec.Header())
	if c.chunked {
		w.Header().Del("Content-Length")
	}
	w.WriteHeader(rec.Code)
	body := rec.Body.Bytes()
	if n < len(c.after) && c.after[n] < len(body) {
		_, _ = w.Write(body[:c.after[n]])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

func TestResume(t *testing.T) {
	file := content(500_000)
	for name, c := range map[string]struct {
		header  http.Header
		ranges  []string // of the requests
		chunked bool
	}{
		"strong etag":          {http.Header{"Etag": {`"one"`}}, []string{"", "bytes=100000-", "bytes=150000-"}, false},
		"weak etag":            {http.Header{"Etag": {`W/"one"`}}, []string{"", "", ""}, false},
		"no etag":              {nil, []string{"", "", ""}, false},
		"length not announced": {http.Header{"Etag": {`"one"`}}, []string{"", "bytes=100000-", "bytes=150000-"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &cut{file: file, header: c.header, chunked: c.chunked, after: []int{100_000, 50_000}}
			o, _ := options(t)
			stored, err := archive.New(o).Archive(t.Context(), event(server(t, s.ServeHTTP)+"/v.mp4"), nil)
			if err != nil || stored[0].SHA256 != sum(file) || stored[0].Size != int64(len(file)) {
				t.Fatal(stored, err)
			}
			for i, h := range s.seen {
				ifMatch := ""
				if c.ranges[i] != "" {
					ifMatch = `"one"`
				}
				if h.Get("Range") != c.ranges[i] || h.Get("If-Match") != ifMatch || h.Get("If-Range") != "" || h.Get("Accept-Encoding") != "identity" {
					t.Errorf("request %d: %v", i, h)
				}
			}
			if len(s.seen) != len(c.ranges) {
				t.Errorf("%d requests", len(s.seen))
			}
		})
	}
}

// A file that became another one meanwhile is fetched from its beginning.
func TestResumeChanged(t *testing.T) {
	first, second := content(300_000), bytes.Repeat([]byte("new "), 50_000)
	var asked atomic.Int64
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		w.Header().Set("Content-Type", "video/mp4")
		if n == 1 {
			w.Header().Set("ETag", `"one"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(first)))
			_, _ = w.Write(first[:200_000])
			return
		}
		w.Header().Set("ETag", `"two"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(second))
	})
	o, folder := options(t)
	stored, err := archive.New(o).Archive(t.Context(), event(url+"/v.mp4"), nil)
	if err != nil || stored[0].SHA256 != sum(second) || asked.Load() != 3 {
		t.Fatal(stored, err, asked.Load())
	}
	if names := files(t, folder); len(names) != 1 {
		t.Error(names)
	}
}

// A stop ends a fetch at once, and leaves nothing half-written.
func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "video/mp4")
		_, _ = w.Write(content(1000))
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	})
	o, folder := options(t)
	stored, err := archive.New(o).Archive(ctx, event(url+"/v.mp4"), nil)
	if len(stored) != 0 || err == nil || err.Error() != field+": the gateway stopped" {
		t.Error(stored, err)
	}
	if names := files(t, folder); len(names) != 0 {
		t.Error(names)
	}
}

// A redirect to a host that is allowed is followed, without telling it the first URL.
func TestRedirect(t *testing.T) {
	var referer atomic.Value
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			http.Redirect(w, r, "/second.mp3", http.StatusFound)
			return
		}
		referer.Store(fmt.Sprint(r.Header["Referer"]))
		serve(content(10))(w, r)
	})
	o, _ := options(t)
	if _, err := archive.New(o).Archive(t.Context(), event(url+"/first?secret"), nil); err != nil {
		t.Fatal(err)
	}
	if referer.Load() != "[]" {
		t.Error(referer.Load())
	}
}

// Proxy variables are for requests to hosts that the operator has chosen.
func TestNoProxy(t *testing.T) {
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	o, _ := options(t, "files.example")
	o.Resolver = names(t, map[string][]netip.Addr{"files.example": {netip.MustParseAddr("127.0.0.1")}})
	url := server(t, serve(content(10)))
	if _, err := archive.New(o).Archive(t.Context(), event(strings.Replace(url, "127.0.0.1", "files.example", 1)), nil); err != nil {
		t.Error(err)
	}
}
