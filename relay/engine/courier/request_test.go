package courier

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/signer"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestRequest(t *testing.T) { forClients(t, testRequest) }

func testRequest(t *testing.T, k client) {
	var got *http.Request
	var gotBody string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got, gotBody = r, string(b)
	}))
	defer server.Close()
	signer, err := signer.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "")
	if err != nil {
		t.Fatal(err)
	}
	const id = "01JDXK7Z8Q6D5V3W2N1M0P9R8T"
	plain := func() (*relay.Destination, *relay.Leased) {
		return k.to(t, server.URL+"/hook?x=1"), leased([]byte("{\"a\": 1 ,\r\n\"b\":\"\u00e9\"}\n"))
	}
	for name, test := range map[string]struct {
		change func(*relay.Destination, *relay.Leased)
		want   map[string]string // an expression, and "" for a header that must not be there
		host   string
	}{
		"first attempt": {
			want: map[string]string{
				"Content-Type": "application/json", "User-Agent": "caddy-relay/test", "Webhook-Id": id,
				"Webhook-Timestamp": `\d{10}`, "Relay-Source": "vocals", "Relay-Task-Id": "task-1", "Relay-Attempt": "1",
				"Traceparent":  "00-01937b33fd17334bb1f0550d0164e11a-[0-9a-f]{16}-00",
				"Relay-Replay": "", "Webhook-Signature": "", "X-Idempotency-Key": "", "Accept-Encoding": "",
			},
		},
		"later attempt of a replay": {
			change: func(_ *relay.Destination, d *relay.Leased) { d.Tries, d.Replay = 4, 2 },
			want:   map[string]string{"Relay-Attempt": "5", "Relay-Replay": "2"},
		},
		"the callback's own type and trace": {
			change: func(_ *relay.Destination, d *relay.Leased) {
				d.Event.Headers = relay.Headers{
					"content-type": "application/json; charset=utf-8",
					"traceparent":  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
				}
			},
			want: map[string]string{
				"Content-Type": "application/json; charset=utf-8",
				"Traceparent":  "00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01",
			},
		},
		"signed": {
			change: func(dst *relay.Destination, _ *relay.Leased) { dst.Signer = signer },
			want:   map[string]string{"Webhook-Signature": "v1,.{44}"},
		},
		"configured headers": {
			change: func(dst *relay.Destination, _ *relay.Leased) {
				dst.Header = http.Header{"Host": {"consumer.internal"}, "X-Team": {"audio"}, "Content-Type": {"text/plain"}, "X-Idempotency-Key": {"k"}}
			},
			want: map[string]string{"X-Team": "audio", "Content-Type": "text/plain", "X-Idempotency-Key": "k", "Host": ""},
			host: "consumer.internal",
		},
		"empty body": {
			change: func(_ *relay.Destination, d *relay.Leased) { d.Event.Body = nil },
			want:   map[string]string{"Content-Length": "0", "Transfer-Encoding": ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dst, d := plain()
			if test.change != nil {
				test.change(dst, d)
			}
			wantStatus(t, New("caddy-relay/test", new(Tracing)).Attempt(t.Context(), dst, d), http.StatusOK)
			if got.Method != http.MethodPost || got.URL.String() != "/hook?x=1" {
				t.Errorf("the request is %s %s", got.Method, got.URL)
			}
			if gotBody != string(d.Event.Body) || got.ContentLength != int64(len(d.Event.Body)) {
				t.Errorf("body %q of length %d", gotBody, got.ContentLength)
			}
			if host := strings.TrimPrefix(server.URL, "http://"); test.host == "" && got.Host != host || test.host != "" && got.Host != test.host {
				t.Errorf("host %q", got.Host)
			}
			for name, want := range test.want {
				values, there := got.Header[name]
				if want == "" && there || want != "" && (len(values) != 1 || !regexp.MustCompile("^"+want+"$").MatchString(values[0])) {
					t.Errorf("%s is %q, want %q", name, values, want)
				}
			}
		})
	}
}

func TestRetryAfter(t *testing.T) { forClients(t, testRetryAfter) }

func testRetryAfter(t *testing.T, k client) {
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-3": 0, "86400": time.Hour, "99999999999999999999": time.Hour, "-99999999999999999999": 0, "soon": 0, "9999999999999999999x": 0,
		"Tue, 03 Feb 2026 04:06:06 GMT": time.Minute, "Tue, 03 Feb 2026 04:00:06 GMT": 0, "Thu, 05 Feb 2026 04:06:06 GMT": time.Hour,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q is %v, want %v", value, got, want)
		}
	}
	for status, want := range map[int]time.Duration{429: 9 * time.Second, 503: 9 * time.Second, 500: 0, 200: 0} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "9")
			w.WriteHeader(status)
		}))
		dst := k.to(t, server.URL)
		a := attempt(t, dst, "{}")
		server.Close()
		wantStatus(t, a, status)
		if a.RetryAfter != want || a.Success() != (status == 200) {
			t.Errorf("after %d: %v, success %t", status, a.RetryAfter, a.Success())
		}
	}
}
