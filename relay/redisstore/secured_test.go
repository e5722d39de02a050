package redisstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// certificate makes a certificate of 127.0.0.1 that signs itself, as files and as a pool that trusts it.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(
		os.WriteFile(certFile, certPEM, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

// memory is a log that is read while others write to it.
type memory struct {
	mu   sync.Mutex
	text strings.Builder
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *memory) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// rights are those that docs/operations.md gives to the user of the gateways.
const rights = "~relay:* &relay:wake +@all -@admin -@dangerous +info +config|get"

// startTLS starts a Redis that speaks TLS at an address of its own, too, and returns the options by which a store uses that.
func startTLS(t *testing.T) (*redistest.Server, func(*redisstore.Options)) {
	t.Helper()
	cert, key, pool := certificate(t)
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	redis := redistest.Start(
		t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no",
	)
	return redis, func(o *redisstore.Options) {
		o.Addresses = []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
		o.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
}

// Over TLS, as a user who may do what operations.md lists and no more, everything works.
func TestTLSAndAUser(t *testing.T) {
	redis, overTLS := startTLS(t)
	grant := []any{"ACL", "SETUSER", "gateway", "on", ">secret"}
	for right := range strings.FieldsSeq(rights) {
		grant = append(grant, right)
	}
	redis.Do(t, grant...)
	var log memory
	use := func(o *redisstore.Options) {
		overTLS(o)
		o.KeyPrefix = "relay"
		o.Username, o.Password = "gateway", "secret"
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}
	s := open(t, use)
	a := newAccept("one", "two")
	accept(t, s, a)
	if err := settle(t, s, lease(t, s, "one", 1).Leased[0], relay.OutcomeDelivered); err != nil {
		t.Error(err)
	}
	if err := settle(t, s, lease(t, s, "two", 1).Leased[0], relay.OutcomeDead); err != nil {
		t.Error(err)
	}
	if n, _, err := s.Redrive(t.Context(), relay.Selection{Source: "vocals"}, relay.Pace{}, ""); n != 1 || err != nil {
		t.Errorf("redrive gave %d, %v", n, err)
	}
	if err := s.Pause(t.Context(), "vocals", "two", true); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Events(t.Context(), relay.EventFilter{Limit: 10}); err != nil {
		t.Error(err)
	}
	if _, err := s.Purge(t.Context(), relay.PurgePolicy{DefaultWindow: time.Hour}); err != nil {
		t.Error(err)
	}
	if err := s.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if policy := s.Info().EvictionPolicy; policy != "noeviction" {
		t.Errorf("the policy is %q", policy)
	}
	b := open(t, use)
	s.Announce("x")
	redistest.Eventually(t, 5*time.Second, "the gateways see each other", func() bool { b.Announce(time.Now().String()); return len(b.Nodes()) == 2 })
	accept(t, s, newAccept("one"))
	awaitWake(t, b, relay.DestinationName{Source: "vocals", Destination: "one"})

	// What the user may not ask is unknown, and said once; it is no outage.
	redis.Do(t, "ACL", "SETUSER", "gateway", "-info")
	for range 2 {
		if err := s.Health(t.Context()); err != nil {
			t.Errorf("without INFO health is %v", err)
		}
	}
	if policy := s.Info().EvictionPolicy; policy != "unknown" {
		t.Errorf("a policy that may not be read is %q", policy)
	}
	if n := strings.Count(log.String(), "maxmemory-policy is unknown"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, log.String())
	}

	// A user who loses the right to write, or the password, is an outage and no refusal, and ends by itself.
	for _, lost := range []string{"-evalsha", "resetpass"} {
		redis.Do(t, "ACL", "SETUSER", "gateway", lost)
		redis.Do(t, "CLIENT", "KILL", "USER", "gateway")
		c := newAccept("one")
		if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{c}}); !errors.Is(c.Err, relay.ErrUnavailable) {
			t.Errorf("after %s accept gave %v", lost, c.Err)
		}
		redis.Do(t, "ACL", "SETUSER", "gateway", "+evalsha", ">secret")
		redistest.Eventually(t, 5*time.Second, "it accepts again", func() bool {
			s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{c}})
			return c.Err == nil
		})
	}

	// A certificate that nobody vouches for is an outage as well.
	s = open(t, use, func(o *redisstore.Options) { o.TLS = &tls.Config{MinVersion: tls.VersionTLS12} })
	d := newAccept("one")
	if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{d}}); !errors.Is(d.Err, relay.ErrUnavailable) {
		t.Errorf("with an unknown certificate accept gave %v", d.Err)
	}
}
