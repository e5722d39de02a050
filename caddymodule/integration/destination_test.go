package integration

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"testing"
)

// TestDestination: what a destination's settings make of its requests.
func TestDestination(t *testing.T) {
	t.Parallel()
	const key = "a key of twenty-four byte"
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(key))
	g := newGateway(t)
	plain, signed, filtered, moved, elsewhere := newConsumer(t), newConsumer(t), newConsumer(t), newConsumer(t), newConsumer(t)
	moved.answersBy(func(*request, <-chan struct{}) int { return http.StatusTemporaryRedirect })
	moved.location = elsewhere.URL()
	g.start(`relay /vocals vocals {
		to plain ` + plain.URL() + `
		to signed ` + signed.URL() + ` {
			sign ` + secret + `
			header Host billing.internal
			header Authorization "Bearer t0ken"
		}
		to filtered ` + filtered.URL() + ` {
			when ` + "`code == 200 && has(data.vocal_removal_info)`" + `
		}
		to moved ` + moved.URL() + ` {
			retry 1h
		}
	}`)
	failure := g.accept("/vocals", fixture(t, "callback-failure-451.json"))
	success := g.accept("/vocals", fixture(t, "callback-separate-vocal.json"))

	for _, r := range signed.waitFor(2) {
		r.wantSigned(t, key)
		if r.header.Get("Host") != "billing.internal" || r.header.Get("Authorization") != "Bearer t0ken" {
			t.Errorf("the configured headers arrive as %v", r.header)
		}
	}
	if got := filtered.waitFor(1)[0]; got.event() != success {
		t.Errorf("the filter lets %s pass", got.event())
	}
	plain.waitFor(2)
	moved.waitFor(2)
	eventually(t, patience, "the redirects count as failures", func() bool {
		return g.metric(`caddy_relay_attempts_total{destination="moved",result="retry",source="vocals"}`) == 2
	})
	if elsewhere.count() != 0 {
		t.Error("a redirect is followed")
	}
	if e := g.event(failure); len(e.Deliveries) != 3 {
		t.Errorf("the event that a filter holds back has deliveries %+v", e.Deliveries)
	}
}

// wantSigned checks the signature of a request.
func (r request) wantSigned(t *testing.T, key string) {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(r.event() + "." + r.header.Get("Webhook-Timestamp") + "." + r.body))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.header.Get("Webhook-Signature") != want {
		t.Errorf("the signature is %q, not %q", r.header.Get("Webhook-Signature"), want)
	}
}
