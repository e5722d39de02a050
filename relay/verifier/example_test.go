package verifier_test

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

// A sender that signs the raw body, as many do.
func ExampleHMAC() {
	v, err := verifier.HMAC(verifier.HMACOptions{
		Secrets: []string{"the secret"},
		Header:  "X-Signature",
		Prefix:  "sha256=",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(v.Verify(&relay.Callback{
		Header: http.Header{"X-Signature": {"sha256=c1bc2d7d1ed4b1e2c30c4a8d2b8f6ad8b0e3f9aa0f4ef2b9a3d0d6b1e6a3c8f1"}},
		Body:   []byte(`{"code":200}`),
		Now:    time.Now(),
	}))
	// Output: the signature does not match
}

// A sender that signs nothing, and calls a URL that holds a secret. During a rotation both secrets count.
func ExampleToken() {
	v, err := verifier.Token(verifier.TokenOptions{Secrets: []string{"new", "old"}, Query: "token"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, token := range []string{"new", "old", "guess"} {
		fmt.Println(v.Verify(&relay.Callback{Query: url.Values{"token": {token}}}))
	}
	// Output:
	// <nil>
	// <nil>
	// the token does not match
}
