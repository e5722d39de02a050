package signer_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/signer"
	"github.com/callbackrelay/caddy-relay/relay/verifier"
)

func TestSigner(t *testing.T) {
	const current, previous = "whsec_Y3VycmVudA==", "whsec_cHJldmlvdXM="
	// The example of the Standard Webhooks specification.
	spec, err := signer.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := spec.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("%s, %v, not %s", got, err, want)
	}

	rotating, err := signer.New(current, previous)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := rotating.Sign("id", now, []byte("body"))
	if err != nil || strings.Count(signature, " ") != 1 {
		t.Fatalf("%q, %v", signature, err)
	}
	for _, secret := range []string{current, previous} {
		v, err := verifier.StandardWebhooks([]string{secret}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(&relay.Callback{Now: now, Body: []byte("body"), Header: http.Header{
			"Webhook-Id": {"id"}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {signature},
		}}); err != nil {
			t.Errorf("the holder of one secret cannot verify: %v", err)
		}
	}
}

func TestSignerRefusesSecrets(t *testing.T) {
	for _, secrets := range [][2]string{{"", ""}, {"", "whsec_YQ=="}, {"whsec_", ""}, {"YQ==", ""}, {"whsec_s3cret!", ""}, {"whsec_YQ==", "s3cret!"}, {"whsec_YQ==", "whsec_"}} {
		_, err := signer.New(secrets[0], secrets[1])
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", secrets, err)
		}
	}
}
