package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	const timeout = time.Second
	for name, tc := range map[string]struct {
		status     int
		used       int
		held       bool
		retryAfter time.Duration
		age        time.Duration
		want       Outcome
		delay      time.Duration
		usedUp     bool
	}{
		"2xx":                          {status: 204, want: OutcomeDelivered, usedUp: true},
		"redirect is a failure":        {status: 302, want: OutcomeRetry, delay: time.Minute, usedUp: true},
		"404 is retried":               {status: 404, want: OutcomeRetry, delay: time.Minute, usedUp: true},
		"second delay":                 {status: 500, used: 1, want: OutcomeRetry, delay: 5 * time.Minute, usedUp: true},
		"transport error":              {status: 0, used: 2, want: OutcomeRetry, delay: 15 * time.Minute, usedUp: true},
		"after the last":               {status: 500, used: 3, want: OutcomeDead, usedUp: true},
		"permanent":                    {status: 410, want: OutcomeDead, usedUp: true},
		"held":                         {status: 503, used: 3, held: true, want: OutcomeRetry},
		"held, but an answer":          {status: 404, used: 3, held: true, want: OutcomeDead, usedUp: true},
		"held and permanent":           {status: 410, held: true, want: OutcomeDead, usedUp: true},
		"later Retry-After":            {status: 429, retryAfter: 2 * time.Minute, want: OutcomeRetry, delay: 2 * time.Minute, usedUp: true},
		"earlier Retry-After":          {status: 503, retryAfter: 10 * time.Second, want: OutcomeRetry, delay: time.Minute, usedUp: true},
		"no later than the expiration": {status: 500, age: 167*time.Hour + 59*time.Minute + 30*time.Second, want: OutcomeRetry, delay: 30 * time.Second, usedUp: true},
	} {
		t.Run(name, func(t *testing.T) {
			dst := &Destination{Retry: DefaultRetry, Permanent: []int{410}, Expire: DefaultExpire, Timeout: timeout}
			s := &Settle{Leased: &Leased{Used: tc.used, Age: tc.age}}
			decide(s, dst, &answer{Attempt: Attempt{Status: tc.status}, retryAfter: tc.retryAfter}, tc.held)
			if s.Outcome != tc.want || s.Delay != tc.delay || s.Used != tc.usedUp {
				t.Errorf("outcome %v after %v, used %v; want %v after %v, used %v", s.Outcome, s.Delay, s.Used, tc.want, tc.delay, tc.usedUp)
			}
		})
	}
}

func TestBreaker(t *testing.T) {
	type try struct {
		status int
		event  string
	}
	for name, tc := range map[string]struct {
		tries []try
		open  bool
	}{
		"three of one event without an answer": {[]try{{0, "a"}, {0, "a"}, {0, "a"}}, true},
		"two are not enough":                   {[]try{{0, "a"}, {0, "b"}}, false},
		"one poison event":                     {[]try{{500, "a"}, {500, "a"}, {500, "a"}, {500, "a"}}, false},
		"500s of two events":                   {[]try{{500, "a"}, {500, "a"}, {500, "b"}}, true},
		"503s of one event":                    {[]try{{503, "a"}, {503, "a"}, {503, "a"}}, true},
		"429 counts":                           {[]try{{429, "a"}, {429, "a"}, {429, "a"}}, true},
		"404 resets":                           {[]try{{0, "a"}, {0, "a"}, {404, "a"}, {0, "a"}, {0, "a"}}, false},
		"2xx closes":                           {[]try{{0, "a"}, {0, "a"}, {0, "a"}, {200, "b"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := breaker{policy: BreakerPolicy{Failures: 3, Probe: time.Second}}
			for _, try := range tc.tries {
				b.record(try.status, try.event)
			}
			if b.open != tc.open {
				t.Errorf("open is %v, want %v", b.open, tc.open)
			}
		})
	}
	t.Run("off", func(t *testing.T) {
		b := breaker{}
		for range 10 {
			b.record(0, "a")
		}
		if b.open {
			t.Error("a breaker that is off opened")
		}
	})
}

func TestRetryPolicy(t *testing.T) {
	p := RetryPolicy{First: time.Second, Longest: time.Hour, Count: 100}
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
	if _, ok := (RetryPolicy{}).Delay(0); ok {
		t.Error("the policy without retries has one")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"120":                           2 * time.Minute,
		"-5":                            0,
		"99999999999":                   time.Hour,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:00:05 GMT": 0,
		"Fri, 02 Jan 2037 03:05:05 GMT": time.Hour,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", value, got, want)
		}
	}
}

func TestReadResponseIsBounded(t *testing.T) {
	endless := &countingReader{}
	kept, err := readResponse(&http.Response{ContentLength: -1, Body: io.NopCloser(endless)})
	if err != nil || len(kept) != keptResponse || endless.n > drainedResponse+keptResponse {
		t.Errorf("kept %d and read %d bytes, error %v", len(kept), endless.n, err)
	}
	kept, err = readResponse(&http.Response{ContentLength: 2, Body: io.NopCloser(strings.NewReader("ok"))})
	if err != nil || !bytes.Equal(kept, []byte("ok")) {
		t.Errorf("kept %q, error %v", kept, err)
	}
}

type countingReader struct{ n int }

func (r *countingReader) Read(p []byte) (int, error) { r.n += len(p); return len(p), nil }

func TestAttemptErrorHidesTheURL(t *testing.T) {
	err := error(&url.Error{Op: "Post", URL: "https://h.example/?token=secret", Err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}})
	if got := attemptError(err, t.Context(), time.Second); got != "dial: connection refused" {
		t.Errorf("error is kept as %q", got)
	}
}

func TestTraceparent(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ev := &Event{ID: newID(time.Now()), Headers: Headers{"traceparent": parent}}
	got := traceparent(ev)
	if !strings.HasPrefix(got, "00-0af7651916cd43dd8448eb211c80319c-") || !strings.HasSuffix(got, "-01") || got == parent {
		t.Errorf("traceparent %s does not continue %s with a span of its own", got, parent)
	}
	ev.Headers = nil
	a, b := traceparent(ev), traceparent(ev)
	if a[:36] != b[:36] || a == b || len(a) != len(parent) {
		t.Errorf("attempts of one event without a trace: %s and %s", a, b)
	}
}

func TestStoredHeaders(t *testing.T) {
	r := &http.Request{Header: http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer x"}, "Cookie": {"a=b"}, "X-Two": {"a", "b"},
		"X-Signature": {"s"}, "X-Long": {strings.Repeat("x", maxHeaders)},
	}}
	got := storedHeaders(r, &Source{Verifiers: []Verifier{headerVerifier("x-signature")}})
	if len(got) > 2 || got["content-type"] != "application/json" {
		t.Errorf("stored %v", got)
	}
	delete(r.Header, "X-Long")
	got = storedHeaders(r, &Source{Verifiers: []Verifier{headerVerifier("x-signature")}})
	if len(got) != 2 || got["x-two"] != "a, b" {
		t.Errorf("stored %v", got)
	}
}

type headerVerifier string

func (headerVerifier) Verify(*Callback) error { return nil }
func (headerVerifier) NeedsBody() bool        { return false }
func (v headerVerifier) Headers() []string    { return []string{string(v)} }

// A probe that was asked for before the breaker closed must not count as one of its next opening.
func TestBreakerOpensWithoutAProbe(t *testing.T) {
	b := breaker{policy: BreakerPolicy{Failures: 1, Probe: time.Second}, probing: true}
	if !b.record(0, "a") || !b.open || b.probing {
		t.Errorf("open is %v, probing is %v", b.open, b.probing)
	}
}
