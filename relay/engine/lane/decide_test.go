package lane

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
)

func TestDecide(t *testing.T) {
	const timeout = time.Second
	for name, tc := range map[string]struct {
		status     int
		used       int
		held       bool
		retryAfter time.Duration
		age        time.Duration
		want       relay.Outcome
		delay      time.Duration
		usedUp     bool
	}{
		"2xx":                          {status: 204, want: relay.OutcomeDelivered, usedUp: true},
		"redirect is a failure":        {status: 302, want: relay.OutcomeRetry, delay: time.Minute, usedUp: true},
		"404 is retried":               {status: 404, want: relay.OutcomeRetry, delay: time.Minute, usedUp: true},
		"second delay":                 {status: 500, used: 1, want: relay.OutcomeRetry, delay: 5 * time.Minute, usedUp: true},
		"transport error":              {status: 0, used: 2, want: relay.OutcomeRetry, delay: 15 * time.Minute, usedUp: true},
		"after the last":               {status: 500, used: 3, want: relay.OutcomeDead, usedUp: true},
		"permanent":                    {status: 410, want: relay.OutcomeDead, usedUp: true},
		"held":                         {status: 503, used: 3, held: true, want: relay.OutcomeRetry},
		"held, but an answer":          {status: 404, used: 3, held: true, want: relay.OutcomeDead, usedUp: true},
		"held and permanent":           {status: 410, held: true, want: relay.OutcomeDead, usedUp: true},
		"later Retry-After":            {status: 429, retryAfter: 2 * time.Minute, want: relay.OutcomeRetry, delay: 2 * time.Minute, usedUp: true},
		"earlier Retry-After":          {status: 503, retryAfter: 10 * time.Second, want: relay.OutcomeRetry, delay: time.Minute, usedUp: true},
		"no later than the expiration": {status: 500, age: 167*time.Hour + 59*time.Minute + 30*time.Second, want: relay.OutcomeRetry, delay: 30 * time.Second, usedUp: true},
	} {
		t.Run(name, func(t *testing.T) {
			dst := &relay.Destination{Retry: relay.DefaultRetry, Permanent: []int{410}, Expire: relay.DefaultExpire, Timeout: timeout}
			s := &relay.Settle{Leased: &relay.Leased{Used: tc.used, Age: tc.age}}
			decide(s, dst, &courier.Answer{Attempt: relay.Attempt{Status: tc.status}, RetryAfter: tc.retryAfter}, tc.held)
			if s.Outcome != tc.want || s.Delay != tc.delay || s.Used != tc.usedUp {
				t.Errorf("outcome %v after %v, used %v; want %v after %v, used %v", s.Outcome, s.Delay, s.Used, tc.want, tc.delay, tc.usedUp)
			}
		})
	}
}
