package intake

import (
	"net/http"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestStoredHeaders(t *testing.T) {
	r := &http.Request{Header: http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer x"}, "Cookie": {"a=b"}, "X-Two": {"a", "b"},
		"X-Signature": {"s"}, "X-Long": {strings.Repeat("x", maxHeaders)},
	}}
	got := storedHeaders(r, &relay.Source{Verifiers: []relay.Verifier{headerVerifier("x-signature")}})
	if len(got) > 2 || got["content-type"] != "application/json" {
		t.Errorf("stored %v", got)
	}
	delete(r.Header, "X-Long")
	got = storedHeaders(r, &relay.Source{Verifiers: []relay.Verifier{headerVerifier("x-signature")}})
	if len(got) != 2 || got["x-two"] != "a, b" {
		t.Errorf("stored %v", got)
	}
}

type headerVerifier string

func (headerVerifier) Verify(*relay.Callback) error { return nil }
func (headerVerifier) NeedsBody() bool              { return false }
func (v headerVerifier) Headers() []string          { return []string{string(v)} }
