package caddymodule

import (
	"crypto/ed25519"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
)

// TestEd25519 signs callbacks for a gateway that knows the key, and for one whose key set is out of its reach: there the
// sender has to try again, since nobody can say yet that it is a stranger.
func TestEd25519(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t)
	consumer := newConsumer(t, http.StatusOK)
	verify := func(key, value string) map[string]any {
		return map[string]any{"verify": []any{map[string]any{"verifier": "ed25519", key: value, "header": "X-Signature"}}}
	}
	known := to(t, consumer.URL, verify("key", hex.EncodeToString(public)))
	away := to(t, consumer.URL, verify("jwks", "https://127.0.0.1:1/jwks.json?key=hunter2"))
	away["source"] = "away"
	g.mustLoad(`{}`, known, away)

	const body = `{"code":200,"data":{"task_id":"task-1"}}`
	signature := hex.EncodeToString(ed25519.Sign(private, []byte(body)))
	for _, c := range []struct {
		source, body, signature string
		status                  int
	}{
		{"vocals", body, signature, http.StatusOK},
		{"vocals", strings.Replace(body, "200", "201", 1), signature, http.StatusUnauthorized},
		{"vocals", body, "", http.StatusUnauthorized},
		{"away", body, "", http.StatusUnauthorized},
		{"away", body, signature, http.StatusServiceUnavailable},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://gateway/"+c.source, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Signature", c.signature)
		res, err := g.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.status || (c.status == http.StatusServiceUnavailable) != (res.Header.Get("Retry-After") != "") {
			t.Errorf("%+v: status %d, header %v", c, res.StatusCode, res.Header)
		}
	}
	if got := consumer.await(t); got != body {
		t.Errorf("delivered %q", got)
	}
	for _, text := range []string{"127.0.0.1 is not a public address", "keys of verify ed25519 not fetched"} {
		eventually(t, "the log has "+text, func() bool { return strings.Contains(logged(), text) })
	}
	if strings.Contains(logged(), "hunter2") || strings.Contains(logged(), signature) {
		t.Error("the log shows the key set's URL, or a signature")
	}
}
