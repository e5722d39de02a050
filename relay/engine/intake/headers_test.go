package intake

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
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
	if len(got) != 2 || got["content-type"] != "application/json" || got["x-two"] != "a, b" {
		t.Errorf("stored %v", got)
	}
	delete(r.Header, "X-Long")
	got = storedHeaders(r, &relay.Source{Verifiers: []relay.Verifier{headerVerifier("x-signature")}})
	if len(got) != 2 || got["x-two"] != "a, b" {
		t.Errorf("stored %v", got)
	}
}

// Of too many headers the same are kept each time, for filters to decide alike.
func TestStoredHeadersAreTheSameEachTime(t *testing.T) {
	r := &http.Request{Header: http.Header{"X-Last": {"z"}}}
	for i := range 40 {
		r.Header[fmt.Sprintf("X-%02d", i)] = []string{strings.Repeat("x", 1000)}
	}
	first := storedHeaders(r, &relay.Source{})
	if len(first) != 1+32+1 || first["x-last"] != "z" {
		t.Errorf("%d are stored", len(first))
	}
	for range 20 {
		if got := storedHeaders(r, &relay.Source{}); !maps.Equal(got, first) {
			t.Fatalf("stored %v, and %v before", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(first)))
		}
	}
}

type headerVerifier string

func (headerVerifier) Verify(*relay.Callback) error { return nil }
func (headerVerifier) NeedsBody() bool              { return false }
func (v headerVerifier) Headers() []string          { return []string{string(v)} }
