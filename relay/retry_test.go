package relay_test

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestRetryPolicy(t *testing.T) {
	p := relay.RetryPolicy{First: time.Second, Longest: time.Hour, Count: 100}
	for n := range 100 {
		d, ok := p.Delay(n)
		full := time.Hour
		if n < 12 {
			full = min(time.Hour, time.Second<<n)
		}
		if !ok || d < full/2 || d > full {
			t.Errorf("retry %d after %v, want between %v and %v", n, d, full/2, full)
		}
	}
	if _, ok := p.Delay(100); ok {
		t.Error("retry 100 of 100 retries, counted from 0, exists")
	}
	if _, ok := (relay.RetryPolicy{}).Delay(0); ok {
		t.Error("the policy without retries has one")
	}
}
