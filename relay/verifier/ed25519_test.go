package verifier_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

func newKey(tb testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return public, private
}

func newEd25519(tb testing.TB, o verifier.Ed25519Options) *verifier.Ed25519Verifier {
	tb.Helper()
	v, err := verifier.Ed25519(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = v.Close() })
	return v
}

func TestEd25519(t *testing.T) {
	public, private := newKey(t)
	old, _ := newKey(t)
	body := []byte(`{"a":1}`)
	sign := func(at string) string { return hex.EncodeToString(ed25519.Sign(private, []byte(at+string(body)))) }
	callback := func(signature, at string) relay.Callback {
		return relay.Callback{Header: http.Header{"X-Signature-Ed25519": {signature}, "X-Signature-Timestamp": {at}}, Body: body}
	}
	other := callback(sign(stamp), stamp)
	other.Body = []byte(`{"a":2}`)
	late, early := fmt.Sprint(now.Unix()-301), fmt.Sprint(now.Unix()+301)
	for _, key := range []string{
		hex.EncodeToString(public), strings.ToUpper(hex.EncodeToString(public)),
		base64.StdEncoding.EncodeToString(public), base64.RawURLEncoding.EncodeToString(public),
	} {
		v := newEd25519(t, verifier.Ed25519Options{
			Keys: []string{hex.EncodeToString(old), key}, Header: "X-Signature-Ed25519",
			Signed: "{timestamp}{body}", TimestampHeader: "X-Signature-Timestamp",
		})
		run(t, v, []verification{
			{"good", callback(sign(stamp), stamp), true},
			{"within the tolerance", callback(sign(fmt.Sprint(now.Unix()-300)), fmt.Sprint(now.Unix()-300)), true},
			{"stale", callback(sign(late), late), false},
			{"from the future", callback(sign(early), early), false},
			{"renewed", callback(sign(late), stamp), false},
			{"other body", other, false},
			{"cut", callback(sign(stamp)[:126], stamp), false},
			{"longer", callback(sign(stamp)+"00", stamp), false},
			{"no hex", callback(strings.Repeat("z", 128), stamp), false},
			{"empty", callback("", stamp), false},
			{"no header", relay.Callback{Body: body}, false},
		})
		if !v.NeedsBody() || !slices.Equal(v.Headers(), []string{"X-Signature-Ed25519", "X-Signature-Timestamp"}) {
			t.Error(v.NeedsBody(), v.Headers())
		}
	}
	v := newEd25519(t, verifier.Ed25519Options{Keys: []string{hex.EncodeToString(old)}, Header: "X-Signature-Ed25519", Signed: "{header.X-Signature-Timestamp}"})
	c := callback(sign(stamp), stamp)
	if err := v.Verify(&c); err == nil || errors.Is(err, relay.ErrUndecided) {
		t.Errorf("another key's signature: %v", err)
	}
	if v.NeedsBody() {
		t.Error("a signature over a header needs the body")
	}
}

func TestEd25519RefusesOptions(t *testing.T) {
	public, private := newKey(t)
	key := hex.EncodeToString(public)
	for want, o := range map[string]verifier.Ed25519Options{
		"either key or jwks":          {Header: "S"},
		"expected either key or":      {Header: "S", Keys: []string{key}, JWKS: &verifier.JWKSOptions{URL: "https://a"}},
		"header: expected":            {Keys: []string{key}},
		"key: expected an Ed25519":    {Header: "S", Keys: []string{key, key[:62]}},
		"32 bytes in hex":             {Header: "S", Keys: []string{""}},
		"key: expected":               {Header: "S", Keys: []string{hex.EncodeToString(private)}},
		"hex, base64 or base64url":    {Header: "S", Keys: []string{key}, Encoding: "pem"},
		"unknown placeholder":         {Header: "S", Keys: []string{key}, Signed: "{url}"},
		"not be negative":             {Header: "S", Keys: []string{key}, TimestampHeader: "T", Tolerance: -1},
		"jwks: expected an https URL": {Header: "S", JWKS: &verifier.JWKSOptions{URL: "http://example.com/jwks.json"}},
		"jwks: expected an https":     {Header: "S", JWKS: &verifier.JWKSOptions{URL: "https:///jwks.json"}},
		"jwks: expected an":           {Header: "S", JWKS: &verifier.JWKSOptions{URL: "https://user:s3cret@example.com/"}},
		"jwks: expected":              {Header: "S", JWKS: &verifier.JWKSOptions{URL: "https://%zz"}},
	} {
		v, err := verifier.Ed25519(o)
		if v != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %q", err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), hex.EncodeToString(private))) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}
