package verifier

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/callbackrelay/caddy-relay/relay/internal/cause"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/publicnet"
)

const (
	jwksAge     = 24 * time.Hour  // how long keys are used without asking again; fal.ai allows no more
	jwksPause   = time.Minute     // the least time between two fetches, while there are keys
	jwksRetry   = 5 * time.Second // and while there are none, which is when a sender is asked to try again
	jwksTimeout = 5 * time.Second // of one fetch
	maxJWKS     = 1 << 20         // bytes
	maxKeys     = 32              // each is tried for a signature that none of them made
)

// JWKSOptions describe where keys are published.
type JWKSOptions struct {
	// URL of a JSON Web Key Set (RFC 7517) with keys of type OKP and curve Ed25519 (RFC 8037). It must be https, on a
	// public address. Redirects are not followed.
	URL string
	// Allowed are prefixes of addresses that may be dialled though they are not public. Default: none.
	Allowed []netip.Prefix
	// RootCAs certify the server. Default: those of the system.
	RootCAs *x509.CertPool
	// Logger is told when the keys cannot be fetched. Default: slog.Default().
	Logger *slog.Logger
}

// keySet holds the keys that a sender publishes. They are fetched when a callback needs them: at first, after jwksAge, and
// when no key fits a signature, which is how a new one makes itself known. All callbacks wait for the same fetch, each no
// longer than its own deadline. Where a fetch fails, the last keys stay.
type keySet struct {
	url    string
	client *http.Client
	log    *slog.Logger

	ctx  context.Context // of the fetches, which outlive the callback that wanted them
	stop context.CancelFunc
	wg   sync.WaitGroup // holds the fetch

	mu       sync.Mutex
	keys     []ed25519.PublicKey
	fetched  time.Time     // when the fetch of keys began
	tried    time.Time     // when the last fetch began
	err      error         // of the last fetch
	fetching chan struct{} // is closed when the fetch has ended; nil where none is under way
}

func newKeySet(o JWKSOptions) (*keySet, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("jwks: expected an https URL, without user and password")
	}
	transport := publicnet.NewTransport(o.Allowed...)
	transport.TLSClientConfig = &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}
	s := &keySet{
		url: o.URL,
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		log: o.Logger,
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// get returns the keys, and why they may not be the sender's current ones. With unknown, none of the keys that it returned
// before has made a signature. It waits for a fetch until the deadline, if that is set.
func (s *keySet) get(now, deadline time.Time, unknown bool) ([]ed25519.PublicKey, error) {
	if fetching := s.fetch(now, unknown); fetching != nil && !wait(fetching, deadline) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.keys, errors.New("the JWKS was not fetched in time")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil && s.err == nil {
		return nil, errors.New("the JWKS is not fetched any more, since the configuration has changed")
	}
	return s.keys, s.err
}

// wait reports whether done was closed before the deadline.
func wait(done <-chan struct{}, deadline time.Time) bool {
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-done:
		return true
	case <-late:
		return false
	}
}

// fetch starts a fetch if one is due, and returns what the caller has to wait for; nil: nothing.
func (s *keySet) fetch(now time.Time, unknown bool) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := jwksPause
	if s.keys == nil {
		pause = jwksRetry
	}
	switch {
	case s.keys != nil && now.Sub(s.fetched) < jwksAge && !unknown:
		return nil
	case s.fetching != nil:
		return s.fetching
	case !s.tried.IsZero() && now.Sub(s.tried) < pause, s.ctx.Err() != nil:
		return nil
	}
	s.tried = now
	s.fetching = make(chan struct{})
	s.wg.Go(func() { s.run(now) })
	return s.fetching
}

func (s *keySet) run(now time.Time) {
	var keys []ed25519.PublicKey
	err := guard.Step(func() (err error) {
		keys, err = s.download()
		return err
	})
	stopped := s.ctx.Err() != nil
	s.finish(now, keys, err)
	if err != nil && !stopped { // after whoever waits for the keys has them
		s.log.Warn("keys of verify ed25519 not fetched; the last ones stay in use, if there are any", "error", err)
	}
}

// finish sets what a fetch has brought, or why it failed, and ends the wait for it.
func (s *keySet) finish(began time.Time, keys []ed25519.PublicKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.keys, s.fetched = keys, began
	}
	s.err = err
	close(s.fetching)
	s.fetching = nil
}

func (s *keySet) download() ([]ed25519.PublicKey, error) {
	ctx, cancel := context.WithTimeout(s.ctx, jwksTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		return nil, errors.New("the URL of the JWKS is malformed")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, unfetched(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the JWKS cannot be fetched: its server answers %d, not 200", res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxJWKS+1))
	if err != nil {
		return nil, unfetched(err)
	}
	if len(b) > maxJWKS {
		return nil, fmt.Errorf("the JWKS is larger than %d bytes", maxJWKS)
	}
	return parseJWKS(b)
}

// unfetched returns the error of a fetch. It holds neither the URL, which may carry a secret, nor anything that the server sent.
func unfetched(err error) error { return errors.New("the JWKS cannot be fetched: " + cause.Of(err)) }

func (s *keySet) close() {
	s.mu.Lock()
	s.stop() // under the lock, so that no fetch begins while the group is waited for
	s.mu.Unlock()
	s.wg.Wait()
}

// parseJWKS returns the public keys of curve Ed25519 in a key set. It passes over what it does not understand, as RFC 7517
// has it in section 5, and over keys for encryption.
func parseJWKS(b []byte) ([]ed25519.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errors.New("the JWKS is not a JSON object with a list of keys")
	}
	var keys []ed25519.PublicKey
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(raw); err != nil {
			continue
		}
		key, ok := jwk.Key.(ed25519.PublicKey)
		if !ok || len(key) != ed25519.PublicKeySize || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("the JWKS has more than %d Ed25519 keys", maxKeys)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWKS has no Ed25519 key")
	}
	return keys, nil
}
