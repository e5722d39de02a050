package intake

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
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

// A proxy may repeat the URL that it was asked for, with the token in its query.
func TestStoredHeadersHoldNoToken(t *testing.T) {
	token, err := verifier.Token(verifier.TokenOptions{Secrets: []string{"s3cret"}, Query: "token"})
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Header: http.Header{"Content-Type": {"application/json"}, "X-Forwarded-For": {"192.0.2.1"}}}
	for _, name := range []string{
		"Referer", "X-Envoy-Original-Path", "X-Forwarded-Uri", "X-Forwarded-Url", "X-Original-Uri", "X-Original-Url", "X-Original-Path", "X-Rewrite-Url",
	} {
		r.Header[name] = []string{"/vocals?token=s3cret"}
	}
	got := storedHeaders(r, &relay.Source{Verifiers: []relay.Verifier{token}})
	if len(got) != 2 || got["x-forwarded-for"] != "192.0.2.1" {
		t.Errorf("stored %v", got)
	}
	if got := storedHeaders(r, &relay.Source{}); len(got) != 10 {
		t.Errorf("of a source without a token %v are stored", got)
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
