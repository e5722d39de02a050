package courier

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

	"github.com/callbackrelay/caddy-relay/relay"
)

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
	ev := &relay.Event{ID: "01JZZZZZZZZZZZZZZZZZZZZZZZ", Headers: relay.Headers{"traceparent": parent}}
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
