package verifier_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// publisher is a server of a sender's keys.
type publisher struct {
	*httptest.Server
	fetches atomic.Int32

	mu     sync.Mutex
	answer http.HandlerFunc
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	p := new(publisher)
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		answer := p.answer
		p.mu.Unlock()
		answer(w, r)
	}))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) answers(answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *publisher) publishes(t *testing.T, keys ...ed25519.PublicKey) {
	t.Helper()
	b := keySet(t, keys...)
	p.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
}

// publishesOnRelease holds its answers until what it returns is called.
func (p *publisher) publishesOnRelease(t *testing.T, keys ...ed25519.PublicKey) (release func()) {
	t.Helper()
	b := keySet(t, keys...)
	released := make(chan struct{})
	p.answers(func(w http.ResponseWriter, _ *http.Request) {
		<-released
		_, _ = w.Write(b)
	})
	return func() { close(released) }
}

func (p *publisher) fails() {
	p.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
}

// trust are options with which the publisher's keys can be fetched.
func (p *publisher) trust() *verifier.JWKSOptions {
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	return &verifier.JWKSOptions{
		URL: p.URL + "/jwks.json?key=s3cret", Allowed: loopback, RootCAs: roots, Logger: slog.New(slog.DiscardHandler),
	}
}

func keySet(t *testing.T, keys ...ed25519.PublicKey) []byte {
	t.Helper()
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	for _, key := range keys {
		set.Keys = append(set.Keys, map[string]string{
			"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": base64.RawURLEncoding.EncodeToString(key),
		})
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func verifierOf(t *testing.T, o *verifier.JWKSOptions) *verifier.Ed25519Verifier {
	t.Helper()
	return newEd25519(t, verifier.Ed25519Options{JWKS: o, Header: "S"})
}

// signedAt returns a callback that arrives some time after now.
func signedAt(key ed25519.PrivateKey, after time.Duration) *relay.Callback {
	return &relay.Callback{
		Header: http.Header{"S": {hex.EncodeToString(ed25519.Sign(key, []byte("body")))}}, Body: []byte("body"), Now: now.Add(after),
	}
}

// stuckLog is a sink that nobody reads, until it is closed.
type stuckLog chan struct{}

func (l stuckLog) Write(p []byte) (int, error) {
	<-l
	return len(p), nil
}

func TestJWKSWhileTheLogIsStuck(t *testing.T) {
	p := newPublisher(t)
	p.fails()
	_, private := newKey(t)
	o, log := p.trust(), make(stuckLog)
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	v := verifierOf(t, o)
	for range 2 {
		if err := v.Verify(signedAt(private, 0)); !errors.Is(err, relay.ErrUndecided) {
			t.Errorf("got %v", err)
		}
	}
	close(log)
}

func TestJWKSIsFetchedOnce(t *testing.T) {
	p := newPublisher(t)
	public, private := newKey(t)
	release := p.publishesOnRelease(t, public)
	v := verifierOf(t, p.trust())
	var callbacks sync.WaitGroup
	for range 50 {
		callbacks.Go(func() {
			if err := v.Verify(signedAt(private, 0)); err != nil {
				t.Error(err)
			}
		})
	}
	release()
	callbacks.Wait()
	if err := v.Verify(signedAt(private, 24*time.Hour-1)); err != nil {
		t.Error(err)
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestJWKSGrowsOld(t *testing.T) {
	p := newPublisher(t)
	public, private := newKey(t)
	p.publishes(t, public)
	v := verifierOf(t, p.trust())
	for _, step := range []struct {
		after   time.Duration
		up      bool
		fetches int32
	}{
		{0, true, 1},
		{24*time.Hour - 1, true, 1},
		{24 * time.Hour, true, 2},
		{48*time.Hour - 1, true, 2},
		{48 * time.Hour, false, 3}, // the last good keys stay through an outage
		{48*time.Hour + time.Minute - 1, false, 3},
		{48*time.Hour + time.Minute, false, 4},
		{96 * time.Hour, false, 5},
		{97 * time.Hour, true, 6},
		{98 * time.Hour, true, 6},
	} {
		if step.up {
			p.publishes(t, public)
		} else {
			p.fails()
		}
		if err := v.Verify(signedAt(private, step.after)); err != nil {
			t.Errorf("after %s: %v", step.after, err)
		}
		if n := p.fetches.Load(); n != step.fetches {
			t.Errorf("after %s: %d fetches, not %d", step.after, n, step.fetches)
		}
	}
}

// TestJWKSUnknownKey: a signature of no known key may be one of a new key, or of a stranger.
func TestJWKSUnknownKey(t *testing.T) {
	p := newPublisher(t)
	public, private := newKey(t)
	newPublic, newPrivate := newKey(t)
	_, stranger := newKey(t)
	p.publishes(t, public)
	v := verifierOf(t, p.trust())
	verify := func(key ed25519.PrivateKey, after time.Duration, ok bool, fetches int32) {
		t.Helper()
		err := v.Verify(signedAt(key, after))
		if (err == nil) != ok || errors.Is(err, relay.ErrUndecided) {
			t.Errorf("after %s: %v", after, err)
		}
		if n := p.fetches.Load(); n != fetches {
			t.Errorf("after %s: %d fetches, not %d", after, n, fetches)
		}
	}
	verify(private, 0, true, 1)
	p.publishes(t, newPublic, public)
	verify(newPrivate, time.Minute-1, false, 1)
	verify(newPrivate, time.Minute, true, 2)
	verify(private, time.Minute, true, 2)
	for range 100 {
		verify(stranger, time.Minute+time.Second, false, 2)
	}
	verify(stranger, 2*time.Minute, false, 3)
	p.publishes(t, newPublic)
	verify(private, 3*time.Minute-1, true, 3)
	verify(stranger, 3*time.Minute, false, 4)
	verify(private, 3*time.Minute, false, 4) // which the sender has withdrawn

	// A stranger, or a new key while the publisher is away: the sender is asked to try again.
	p.fails()
	if err := v.Verify(signedAt(private, 4*time.Minute)); !errors.Is(err, relay.ErrUndecided) {
		t.Errorf("with the publisher away: %v", err)
	}
	verify(newPrivate, 4*time.Minute, true, 5)
}

func TestJWKSNotYetFetched(t *testing.T) {
	p := newPublisher(t)
	public, private := newKey(t)
	p.fails()
	v := verifierOf(t, p.trust())
	for _, after := range []time.Duration{0, time.Second, 5*time.Second - 1} {
		if err := v.Verify(signedAt(private, after)); !errors.Is(err, relay.ErrUndecided) {
			t.Errorf("after %s: %v", after, err)
		}
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	p.publishes(t, public)
	if err := v.Verify(signedAt(private, 5*time.Second)); err != nil {
		t.Error(err)
	}
}

// TestJWKSDeadline: a callback waits no longer than it may, a fetch goes on for the next one, and closing ends it.
func TestJWKSDeadline(t *testing.T) {
	p := newPublisher(t)
	public, private := newKey(t)
	release := p.publishesOnRelease(t, public)
	v := verifierOf(t, p.trust())
	late := signedAt(private, 0)
	late.Deadline = time.Now().Add(time.Millisecond)
	if err := v.Verify(late); !errors.Is(err, relay.ErrUndecided) {
		t.Errorf("after its deadline: %v", err)
	}
	release()
	if err := v.Verify(signedAt(private, 0)); err != nil {
		t.Error(err)
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestJWKSClose(t *testing.T) {
	p := newPublisher(t)
	_, private := newKey(t)
	begun := make(chan struct{})
	p.answers(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})
	v := verifierOf(t, p.trust())
	var callback sync.WaitGroup
	callback.Go(func() {
		if err := v.Verify(signedAt(private, 0)); !errors.Is(err, relay.ErrUndecided) {
			t.Errorf("while it is closed: %v", err)
		}
	})
	<-begun
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	callback.Wait()
	if err := v.Verify(signedAt(private, time.Hour)); !errors.Is(err, relay.ErrUndecided) {
		t.Errorf("after it is closed: %v", err)
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	unused := verifierOf(t, p.trust())
	_ = unused.Close()
	if err := unused.Verify(signedAt(private, 0)); !errors.Is(err, relay.ErrUndecided) {
		t.Errorf("closed before it is used: %v", err)
	}
}

// TestJWKSRefuses has servers and answers that give no keys.
func TestJWKSRefuses(t *testing.T) {
	p := newPublisher(t)
	public, private := newKey(t)
	set := keySet(t, public)
	writes := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
	}
	many := make([]ed25519.PublicKey, 33)
	for i := range many {
		many[i] = public
	}
	for want, c := range map[string]struct {
		answer http.HandlerFunc
		change func(o *verifier.JWKSOptions)
	}{
		"127.0.0.1 is not a public address": {nil, func(o *verifier.JWKSOptions) { o.Allowed = nil }},
		"not a public address": {nil, func(o *verifier.JWKSOptions) {
			o.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1)
			o.Allowed = nil
		}},
		"certificate": {nil, func(o *verifier.JWKSOptions) { o.RootCAs = x509.NewCertPool() }},
		"answers 302": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				_, _ = w.Write(set)
				return
			}
			http.Redirect(w, r, "/moved", http.StatusFound)
		}, nil},
		"answers 404": {http.NotFound, nil},
		"larger than": {writes(string(set) + strings.Repeat(" ", 1<<20)), nil},
		"parse Location header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://cdn.example/%zz?key=s3cret")
			w.WriteHeader(http.StatusFound)
		}, nil},
		"the connection was closed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999")
			_, _ = w.Write(set)
		}, nil},
		"is not a JSON object":        {writes("<html>"), nil},
		"with a list of keys":         {writes(`[]`), nil},
		"has no Ed25519 key":          {writes(`{"keys":[]}`), nil},
		"no Ed25519 key":              {writes(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"},{"kty":"OKP","crv":"X25519","x":"` + strings.Repeat("A", 43) + `"},{"kty":"oct","k":"AAAA"},{},7]}`), nil},
		"more than 32":                {writes(string(keySet(t, many...))), nil},
		"the JWKS has no Ed25519 key": {writes(strings.Replace(string(set), `"alg"`, `"use":"enc","alg"`, 1)), nil},
	} {
		p.answers(writes(string(set)))
		if c.answer != nil {
			p.answers(c.answer)
		}
		o := p.trust()
		var lines bytes.Buffer
		o.Logger = slog.New(slog.NewTextHandler(&lines, nil))
		if c.change != nil {
			c.change(o)
		}
		v := verifierOf(t, o)
		err := v.Verify(signedAt(private, 0))
		if !errors.Is(err, relay.ErrUndecided) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
		_ = v.Close() // after which nothing is logged any more
		if !strings.Contains(lines.String(), "level=WARN") {
			t.Errorf("%s: the log is %q", want, lines.String())
		}
		if err != nil && strings.Contains(err.Error()+lines.String(), "s3cret") {
			t.Errorf("the URL is shown: %v, %s", err, lines.String())
		}
	}
}

// TestJWKSPassesOver: a set may hold keys of other kinds, and of kinds to come.
func TestJWKSPassesOver(t *testing.T) {
	p := newPublisher(t)
	public, private := newKey(t)
	set := strings.Replace(string(keySet(t, public)), `{"keys":[`,
		`{"extra":1,"keys":[{"kty":"ML-DSA"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},null,{"kty":"OKP","crv":"Ed25519","x":"!"},`, 1)
	p.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, set) })
	if err := verifierOf(t, p.trust()).Verify(signedAt(private, 0)); err != nil {
		t.Error(err)
	}
}
