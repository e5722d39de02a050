package verifier

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

// FuzzListed writes a list of one entry among others, and reads it back.
func FuzzListed(f *testing.F) {
	f.Add("t=1700000000,v1=abc,v1=def", "v1", "abc")
	f.Add("v1=,=,,v1,v1==, v1 = x", "v1", "=")
	f.Fuzz(func(t *testing.T, list, key, value string) {
		for _, got := range listed(list, key) {
			if !strings.Contains(list, key+"="+got) {
				t.Fatalf("%q is not in %q", got, list)
			}
		}
		if strings.ContainsAny(key, "=, \t") || strings.ContainsAny(value, ", \t") {
			return
		}
		before := listed(list, key)
		if got := listed(list+", "+key+"="+value, key); !slices.Equal(got, append(before, value)) {
			t.Fatalf("%q and %s=%q: %q", list, key, value, got)
		}
	})
}

// FuzzParseTemplate writes what was parsed, and parses it again.
func FuzzParseTemplate(f *testing.F) {
	f.Add(`{timestamp}\n{body_sha256}\\{header.X-Id}`)
	f.Add(`{header.}`)
	f.Add("{{body}}\\")
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := parseTemplate(s)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, p := range parsed {
			switch p.kind {
			case literal:
				again.WriteString(strings.NewReplacer("\n", `\n`, `\`, `\\`).Replace(p.text))
			case header:
				again.WriteString(string(header) + p.text + "}")
			default:
				again.WriteString(string(p.kind))
			}
		}
		reparsed, err := parseTemplate(again.String())
		if err != nil {
			t.Fatalf("%q, from %q: %v", again.String(), s, err)
		}
		c := &relay.Callback{Body: []byte("body"), TaskID: "task"}
		a, errA := parsed.fill(c, "1")
		b, errB := reparsed.fill(c, "1")
		if !bytes.Equal(a, b) || (errA == nil) != (errB == nil) {
			t.Fatalf("%q is %q and %q", s, a, b)
		}
	})
}

// FuzzParseKey checks that a key can be written in every form, and is the same key in each.
func FuzzParseKey(f *testing.F) {
	f.Add(strings.Repeat("0f", 32))
	f.Add("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	f.Add("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := parseKey(s)
		if err != nil {
			if len(s) > 8 && strings.Contains(err.Error(), s) {
				t.Fatalf("the error shows the text: %v", err)
			}
			return
		}
		for _, text := range []string{
			hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
			base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
		} {
			if again, err := parseKey(text); err != nil || !key.Equal(again) {
				t.Fatalf("%s: %x, %v", text, again, err)
			}
		}
	})
}

// FuzzParseJWKS: no set is read as more, longer or other keys than it has.
func FuzzParseJWKS(f *testing.F) {
	const x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + x + `","kid":"1","use":"sig"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + x + `","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","x5c":["AA"]},{"kty":"RSA","n":"AQ","e":"AQAB"},null]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseJWKS(b)
		if (err == nil) == (len(keys) == 0) || len(keys) > maxKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		if err != nil {
			return
		}
		var set struct {
			Keys []json.RawMessage `json:"keys"`
		}
		if err := json.Unmarshal(b, &set); err != nil || len(set.Keys) < len(keys) {
			t.Fatalf("%d keys of %d: %v", len(keys), len(set.Keys), err)
		}
		for _, key := range keys {
			if len(key) != ed25519.PublicKeySize {
				t.Fatalf("a key of %d bytes", len(key))
			}
		}
	})
}
