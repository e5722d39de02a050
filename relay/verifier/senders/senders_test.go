// Package senders_test verifies what senders' own libraries sign.
package senders_test

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signed is the JSON that senders.mjs prints.
type signed struct {
	Now     int64
	Body    string
	Senders map[string]map[string]string // headers by sender
	Key     string                       // in hex
	JWKS    json.RawMessage
}

// sign installs the senders' libraries and lets them sign.
func sign(t *testing.T) signed {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "senders.mjs"} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm: %v\n%s", err, out)
	}
	node := exec.CommandContext(t.Context(), "node", "senders.mjs")
	node.Dir = dir
	var complaints strings.Builder
	node.Stderr = &complaints
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, &complaints)
	}
	var s signed
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// sender is how a sender's callbacks are verified.
type sender struct {
	verifier  relay.Verifier
	other     relay.Verifier // the same with another secret or key
	tolerance time.Duration  // zero: no time is signed
	bodiless  bool           // the signature does not cover the body
}

func senders(t *testing.T, s signed) map[string]sender {
	t.Helper()
	must := func(v relay.Verifier, err error) relay.Verifier {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	hmac := func(o verifier.HMACOptions) sender {
		t.Helper()
		secrets := func(secrets ...string) relay.Verifier {
			o.Secrets = secrets
			return must(verifier.HMAC(o))
		}
		known := sender{verifier: secrets("previous", "s3cret"), other: secrets("previous", "another")}
		if o.Timestamp != "" || o.TimestampHeader != "" {
			known.tolerance = verifier.DefaultTolerance
		}
		return known
	}
	ed25519 := func(o verifier.Ed25519Options) relay.Verifier {
		t.Helper()
		v, err := verifier.Ed25519(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = v.Close() })
		return v
	}
	standard := sender{
		verifier:  must(verifier.StandardWebhooks([]string{"b2xk", whsec}, 0)),
		other:     must(verifier.StandardWebhooks([]string{"b2xk"}, 0)),
		tolerance: verifier.StandardTolerance,
	}
	const otherKey = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
	fal := verifier.Ed25519Options{
		JWKS:   publish(t, s.JWKS),
		Header: "X-Fal-Webhook-Signature",
		Signed: `{header.X-Fal-Webhook-Request-Id}\n{header.X-Fal-Webhook-User-Id}\n` +
			`{header.X-Fal-Webhook-Timestamp}\n{body_sha256}`,
		TimestampHeader: "X-Fal-Webhook-Timestamp",
	}
	falOther := fal
	falOther.JWKS, falOther.Keys = nil, []string{otherKey}
	discord := verifier.Ed25519Options{
		Keys: []string{otherKey, s.Key}, Header: "X-Signature-Ed25519", Signed: "{timestamp}{body}", TimestampHeader: "X-Signature-Timestamp",
	}
	discordOther := discord
	discordOther.Keys = []string{otherKey}
	return map[string]sender{
		"stripe":           hmac(verifier.HMACOptions{Header: "Stripe-Signature", Scheme: []string{"v1"}, Timestamp: "t"}),
		"stripe, rolling":  hmac(verifier.HMACOptions{Header: "Stripe-Signature", Scheme: []string{"v1"}, Timestamp: "t"}),
		"mux":              hmac(verifier.HMACOptions{Header: "Mux-Signature", Scheme: []string{"v1"}, Timestamp: "t"}),
		"elevenlabs":       hmac(verifier.HMACOptions{Header: "ElevenLabs-Signature", Scheme: []string{"v0"}, Timestamp: "t"}),
		"github":           hmac(verifier.HMACOptions{Header: "X-Hub-Signature-256", Prefix: "sha256="}),
		"github, sha1":     hmac(verifier.HMACOptions{Header: "X-Hub-Signature", Prefix: "sha1=", Algorithm: "sha1"}),
		"shopify":          hmac(verifier.HMACOptions{Header: "X-Shopify-Hmac-Sha256", Encoding: "base64"}),
		"slack":            hmac(verifier.HMACOptions{Header: "X-Slack-Signature", Prefix: "v0=", Signed: "v0:{timestamp}:{body}", TimestampHeader: "X-Slack-Request-Timestamp"}),
		"standardwebhooks": standard,
		"svix":             standard,
		"kie": {
			verifier:  must(verifier.Kie([]string{"previous", "s3cret"}, 0)),
			other:     must(verifier.Kie([]string{"previous"}, 0)),
			tolerance: verifier.DefaultTolerance,
			bodiless:  true,
		},
		"sha512, base64url": hmac(verifier.HMACOptions{Header: "X-Signature", Algorithm: "sha512", Encoding: "base64url"}),
		"fal":               {verifier: ed25519(fal), other: ed25519(falOther), tolerance: verifier.Ed25519Tolerance},
		"discord":           {verifier: ed25519(discord), other: ed25519(discordOther), tolerance: verifier.Ed25519Tolerance},
	}
}

// publish serves a key set.
func publish(t *testing.T, jwks []byte) *verifier.JWKSOptions {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwks) }))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &verifier.JWKSOptions{URL: server.URL, RootCAs: roots, Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

// TestSenders verifies callbacks that senders' own libraries have signed, and what a stranger can make of them.
func TestSenders(t *testing.T) {
	s := sign(t)
	known := senders(t, s)
	if len(known) != len(s.Senders) {
		t.Errorf("%d senders have signed, %d are verified", len(s.Senders), len(known))
	}
	for name, headers := range s.Senders {
		t.Run(name, func(t *testing.T) {
			sender := known[name]
			if sender.verifier == nil {
				t.Fatal("nothing verifies its callbacks")
			}
			callback := func(change func(c *relay.Callback)) *relay.Callback {
				c := &relay.Callback{Header: http.Header{}, Body: []byte(s.Body), TaskID: "task-1", Now: time.Unix(s.Now, 0)}
				for name, value := range headers {
					c.Header.Set(name, value)
				}
				if change != nil {
					change(c)
				}
				return c
			}
			refused := func(what string, v relay.Verifier, c *relay.Callback, text string) {
				t.Helper()
				err := v.Verify(c)
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := sender.verifier.Verify(callback(nil)); err != nil {
				t.Errorf("as it was signed: %v", err)
			}
			refused("another secret", sender.other, callback(nil), "does not match")
			if !sender.bodiless {
				refused("another body", sender.verifier, callback(func(c *relay.Callback) { c.Body[len(c.Body)-2]++ }), "does not match")
			}
			for name := range headers {
				refused("without "+name, sender.verifier, callback(func(c *relay.Callback) { c.Header.Del(name) }), "is missing")
			}
			if sender.tolerance > 0 {
				after := func(d time.Duration) *relay.Callback {
					return callback(func(c *relay.Callback) { c.Now = c.Now.Add(d) })
				}
				if err := sender.verifier.Verify(after(sender.tolerance)); err != nil {
					t.Errorf("a late try: %v", err)
				}
				refused("replayed", sender.verifier, after(sender.tolerance+time.Second), "stale")
			}
		})
	}
}
