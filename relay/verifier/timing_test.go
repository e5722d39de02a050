package verifier_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

// guesses are callbacks of two kinds that must be refused, and must take equally long.
type guesses struct {
	next  func(near bool) relay.Callback // wrong in one byte alone, or from the first byte on
	check func(*relay.Callback) error
}

// TestTiming measures whether a guess that is nearly right takes longer to be refused than one that is all wrong, by Welch's
// t of many refusals of each, in random order. It takes a minute, and means nothing on a busy machine, so it runs only where
// RELAY_TIMING is set.
func TestTiming(t *testing.T) {
	if os.Getenv("RELAY_TIMING") == "" {
		t.Skip("it measures for a minute; set RELAY_TIMING=1 on a machine that does nothing else")
	}
	// Above 4.5 a difference is beyond doubt; the comparison that stops at the first difference is far above.
	const threshold = 4.5
	for _, name := range []string{"a comparison that stops early", "hmac", "kie", "token", "standard_webhooks", "ed25519"} {
		t.Run(name, func(t *testing.T) {
			near, far := measure(t, timed(t)[name])
			welch := welchT(near, far)
			t.Logf("|t| = %.2f; a near guess takes %.1f ns, a far one %.1f ns", math.Abs(welch), mean(near), mean(far))
			if leaks := math.Abs(welch) > threshold; leaks != (name == "a comparison that stops early") {
				t.Errorf("|t| is %.2f", math.Abs(welch))
			}
		})
	}
}

func timed(t *testing.T) map[string]guesses {
	t.Helper()
	const secret, body = "a secret that is as long as secrets are, and a bit more", `{"code":200,"data":{"task_id":"task"}}`
	of := func(v relay.Verifier, err error, header func(signature string) http.Header, near, far string) guesses {
		must(t)(v, err)
		callback := func(guess string) relay.Callback {
			return relay.Callback{Header: header(guess), Query: url.Values{"token": {guess}}, Body: []byte(body), TaskID: "task", Now: now}
		}
		nearly, wrong := callback(near), callback(far)
		return guesses{func(near bool) relay.Callback {
			if near {
				return nearly
			}
			return wrong
		}, v.Verify}
	}
	// changed returns two wrong guesses at b.
	changed := func(b []byte, text func([]byte) string) (near, far string) {
		nearly, wrong := slices.Clone(b), slices.Clone(b)
		nearly[len(b)-1] ^= 1
		for i := range wrong {
			wrong[i] ^= 0x55
		}
		return text(nearly), text(wrong)
	}
	signed := func(names ...string) func(string) http.Header {
		return func(signature string) http.Header {
			h := http.Header{names[0]: {signature}}
			for _, name := range names[1:] {
				h[name] = []string{stamp}
			}
			return h
		}
	}
	all := map[string]guesses{}

	near, far := changed(mac(sha256.New, secret, body), hex.EncodeToString)
	v, err := verifier.HMAC(verifier.HMACOptions{Secrets: []string{secret}, Header: "S"})
	all["hmac"] = of(v, err, signed("S"), near, far)

	near, far = changed(mac(sha256.New, secret, "task."+stamp), base64.StdEncoding.EncodeToString)
	v, err = verifier.Kie([]string{secret}, 0)
	all["kie"] = of(v, err, signed("X-Webhook-Signature", "X-Webhook-Timestamp"), near, far)

	near, far = changed([]byte(secret), func(b []byte) string { return string(b) })
	v, err = verifier.Token(verifier.TokenOptions{Secrets: []string{secret}, Query: "token"})
	all["token"] = of(v, err, signed("S"), near, far)

	near, far = changed(mac(sha256.New, secret, stamp+"."+stamp+"."+body), func(b []byte) string { return "v1," + base64.StdEncoding.EncodeToString(b) })
	v, err = verifier.StandardWebhooks([]string{base64.StdEncoding.EncodeToString([]byte(secret))}, 0)
	all["standard_webhooks"] = of(v, err, signed("Webhook-Signature", "Webhook-Timestamp", "Webhook-Id"), near, far)

	// How long a signature of Ed25519 takes depends on its numbers, which are no secret: each guess is of another message.
	public, private := newKey(t)
	all["ed25519"] = guesses{func(near bool) relay.Callback {
		message := []byte(rand.Text())
		signature := ed25519.Sign(private, message)
		signature[31] ^= 1
		if !near {
			for i := range 31 {
				signature[i] ^= 0x55
			}
		}
		return relay.Callback{Header: http.Header{"S": {hex.EncodeToString(signature)}}, Body: message, Now: now}
	}, newEd25519(t, verifier.Ed25519Options{Keys: []string{hex.EncodeToString(public)}, Header: "S"}).Verify}

	right := hex.EncodeToString(mac(sha256.New, secret, body))
	early := all["hmac"]
	early.check = func(c *relay.Callback) error {
		guess := c.Header["S"][0]
		for i := range right {
			if guess[i] != right[i] {
				return http.ErrNotSupported
			}
		}
		return nil
	}
	all["a comparison that stops early"] = early
	return all
}

// measure returns how many nanoseconds each refusal took. The slowest tenth is left out: it is the machine's.
func measure(t *testing.T, g guesses) (near, far []float64) {
	t.Helper()
	const samples = 100_000
	for range samples {
		guess := mathrand.IntN(2) == 0
		c, into := g.next(guess), &far
		if guess {
			into = &near
		}
		start := time.Now()
		err := g.check(&c)
		*into = append(*into, float64(time.Since(start)))
		if err == nil {
			t.Fatal("a wrong guess passes")
		}
	}
	all := slices.Sorted(slices.Values(append(slices.Clone(near), far...)))
	limit := all[len(all)*9/10]
	late := func(ns float64) bool { return ns > limit }
	return slices.DeleteFunc(near, late), slices.DeleteFunc(far, late)
}

func mean(all []float64) (sum float64) {
	for _, x := range all {
		sum += x
	}
	return sum / float64(len(all))
}

func welchT(a, b []float64) float64 {
	share := func(all []float64) (m, variance float64) {
		m = mean(all)
		for _, x := range all {
			variance += (x - m) * (x - m)
		}
		return m, variance / float64(len(all)-1) / float64(len(all))
	}
	am, av := share(a)
	bm, bv := share(b)
	return (am - bm) / math.Sqrt(av+bv)
}
