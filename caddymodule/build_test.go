package caddymodule

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/time/rate"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// build makes a source from a handler's JSON.
func build(t *testing.T, config string) *relay.Source {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	h := new(Handler)
	if err := caddy.StrictUnmarshalJSON([]byte(config), h); err != nil {
		t.Fatal(err)
	}
	src, err := h.build(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// adaptedHandler returns the JSON of the only handler of a Caddyfile.
func adaptedHandler(t *testing.T, caddyfile string) string {
	t.Helper()
	adapted, err := adapt(":8080 {\n" + caddyfile + "\n}")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct {
						Handle []map[string]any `json:"handle"`
					} `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	h := config.Apps.HTTP.Servers["srv0"].Routes[0].Handle[0]
	delete(h, "handler")
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// plainSource clears the fields that cannot be compared, after checking that they are set.
func plainSource(t *testing.T, src *relay.Source) relay.Source {
	t.Helper()
	s := *src
	if s.Provider == nil || s.Logger == nil {
		t.Errorf("provider %v, logger %v", s.Provider, s.Logger)
	}
	s.Provider, s.Logger, s.Verifiers = nil, nil, nil
	for i, d := range s.Destinations {
		c := *d
		if c.Transport == nil {
			t.Errorf("%s has no transport", c.Name)
		}
		c.Transport, c.Signer, c.When = nil, nil, nil
		s.Destinations[i] = &c
	}
	return s
}

// TestDefaults compares an empty configuration with the defaults that the engine and the documentation name.
func TestDefaults(t *testing.T) {
	src := build(t, adaptedHandler(t, `relay vocals {
		to https://billing.example.com:8443/hook
	}`))
	d := src.Destinations[0]
	if d.Signer != nil || d.When != nil || len(src.Verifiers) != 0 || !src.Open() {
		t.Errorf("unexpected: %+v", d)
	}
	got := plainSource(t, src)
	if u := got.Destinations[0].URL.String(); u != "https://billing.example.com:8443/hook" {
		t.Errorf("url %s", u)
	}
	got.Destinations[0].URL = nil
	expected := relay.Source{
		Name:         "vocals",
		Dedupe:       []relay.DedupeField{{Kind: relay.DedupeTaskID}, {Kind: relay.DedupeStage}, {Kind: relay.DedupeCode}},
		DedupeWindow: 24 * time.Hour,
		Body:         payload.JSON,
		MaxBody:      4 << 20,
		AckWithin:    10 * time.Second,
		Response:     relay.Response{Status: 200, Body: `{"status":"received"}`, ContentType: "application/json"},
		Destinations: []*relay.Destination{{
			Name:        "billing.example.com-8443",
			Timeout:     15 * time.Second,
			Retry:       relay.RetryPolicy{Delays: []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}},
			Permanent:   []int{410},
			Header:      http.Header{},
			MaxInFlight: 16,
			Breaker:     relay.BreakerPolicy{Failures: 3, Probe: 30 * time.Second},
			Expire:      168 * time.Hour,
		}},
	}
	if !reflect.DeepEqual(got, expected) {
		t.Errorf("got %+v\n%+v\nexpected %+v\n%+v", got, *got.Destinations[0], expected, *expected.Destinations[0])
	}
}

// TestSameInJSON writes one configuration as a Caddyfile and as JSON, and compares what the engine gets.
func TestSameInJSON(t *testing.T) {
	t.Setenv("HOOK_TOKEN", "t0ken")
	fromCaddyfile := build(t, adaptedHandler(t, `relay vocals {
		provider custom {
			task_id header:X-Task
			files_under output
			json_text result data.0.json
		}
		body any
		allow 203.0.113.7 2001:db8::/32
		allow_from static 198.51.100.0/24
		allow_from static private_ranges
		allow_mode observe
		conflict deliver
		verify kie {env.HOOK_TOKEN}
		dedupe stage path:data.items.0.id header:x-request-id
		dedupe_window 2d
		max_body 2MiB
		ack_within 5s
		respond 202
		to billing https://billing.example.com/{env.HOOK_TOKEN} {
			when code == 200
			timeout 20s
			retry 10s
			permanent 404 410
			header host billing.internal
			header X-Token {env.HOOK_TOKEN}
			sign whsec_bm90IGEgc2VjcmV0LCBhIHRlc3Qga2V5
			max_in_flight 3
			rate 90/m
			breaker 5 1m
			expire 1h
			order task
			transport http {
				dial_timeout 1s
			}
		}
		to files https://files.example.com/hook {
			retry exponential 1s 1m 9
			breaker off
		}
		to none https://none.example.com/hook {
			retry off
		}
	}`))
	fromJSON := build(t, `{
		"source": "vocals",
		"provider": {"name": "custom", "task_id": ["header:X-Task"], "files_under": "output", "json_text": ["result", "data.0.json"]},
		"body": "any",
		"allow_from": [
			{"source": "static", "ranges": ["198.51.100.0/24"]},
			{"source": "static", "ranges": ["192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "127.0.0.1/8", "fd00::/8", "::1"]}
		],
		"allow_mode": "observe",
		"conflict": "deliver",
		"allow": ["203.0.113.7", "2001:db8::/32"],
		"verify": [{"verifier": "kie", "secret": ["{env.HOOK_TOKEN}"]}],
		"dedupe": ["stage", "path:data.items.0.id", "header:X-Request-Id"],
		"dedupe_window": "48h",
		"max_body": 2097152,
		"ack_within": 5000000000,
		"respond": {"status": 202},
		"destinations": [
			{
				"name": "billing", "url": "https://billing.example.com/{env.HOOK_TOKEN}", "when": "code == 200",
				"timeout": "20s", "retry": {"delays": ["10s"]}, "permanent": [404, 410],
				"header": {"Host": "billing.internal", "x-token": "{env.HOOK_TOKEN}"},
				"sign": {"secret": "whsec_bm90IGEgc2VjcmV0LCBhIHRlc3Qga2V5"},
				"max_in_flight": 3, "rate": "90/m", "breaker": {"failures": 5, "probe_interval": "1m"},
				"expire": "1h", "order": "task", "transport": {"protocol": "http", "dial_timeout": "1s"}
			},
			{
				"name": "files", "url": "https://files.example.com/hook",
				"retry": {"first": "1s", "longest": "1m", "count": 9}, "breaker": {"off": true}
			},
			{"name": "none", "url": "https://none.example.com/hook", "retry": {"off": true}}
		]
	}`)
	for _, src := range []*relay.Source{fromCaddyfile, fromJSON} {
		if d := src.Destinations[0]; d.Signer == nil || d.When == nil || len(src.Verifiers) != 1 {
			t.Errorf("signer %v, when %v, verifiers %v", d.Signer, d.When, src.Verifiers)
		}
	}
	a, b := plainSource(t, fromCaddyfile), plainSource(t, fromJSON)
	if a.Body != payload.Any || !a.Observe || !a.DeliverConflicts || len(a.AllowFrom) != 2 || !a.Restricted() || fromJSON.Open() {
		t.Errorf("unexpected: %+v", a)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("Caddyfile: %+v\nJSON: %+v", a, b)
	}

	if expected := []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("2001:db8::/32")}; !reflect.DeepEqual(a.Allow, expected) {
		t.Errorf("allow: %v", a.Allow)
	}
	if expected := []relay.DedupeField{{Kind: "stage"}, {Kind: "path", Name: "data.items.0.id"}, {Kind: "header", Name: "X-Request-Id"}}; !reflect.DeepEqual(a.Dedupe, expected) {
		t.Errorf("dedupe: %v", a.Dedupe)
	}
	if (a.Response != relay.Response{Status: 202, ContentType: "text/plain; charset=utf-8"}) {
		t.Errorf("response: %+v", a.Response)
	}
	d := a.Destinations[0]
	if d.URL.String() != "https://billing.example.com/t0ken" || d.Header.Get("X-Token") != "t0ken" || d.Header.Get("Host") != "billing.internal" {
		t.Errorf("url %s, header %v", d.URL, d.Header)
	}
	if d.Rate != rate.Limit(1.5) || !d.OrderTask || d.MaxInFlight != 3 {
		t.Errorf("rate %v, order %v, max_in_flight %d", d.Rate, d.OrderTask, d.MaxInFlight)
	}
	if r := a.Destinations[1].Retry; r.Retries() != 9 || r.First != time.Second || r.Longest != time.Minute {
		t.Errorf("retry: %+v", r)
	}
	if r := a.Destinations[2].Retry; r.Retries() != 0 {
		t.Errorf("retry off: %+v", r)
	}
	if b := a.Destinations[1].Breaker; b.Failures != 0 {
		t.Errorf("breaker off: %+v", b)
	}
}

// TestRecovery has what the engine gets of recover.
func TestRecovery(t *testing.T) {
	t.Setenv("KEY", "k3y")
	t.Setenv("BASE", "https://proxy.example.com/kie")
	address := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	to := "\n\t\tto https://billing.example.com\n\t}"
	for text, want := range map[string]*relay.Recovery{
		"relay vocals {" + to: nil,
		"relay vocals {\nrecover" + to: {
			Base: address("https://api.sunoapi.org"), Header: http.Header{}, After: 10 * time.Minute, Every: 30 * time.Second, For: 24 * time.Hour,
		},
		"relay vocals {\nprovider kie\nrecover" + to: {
			Base: address("https://api.kie.ai"), Header: http.Header{}, After: 10 * time.Minute, Every: 30 * time.Second, For: 24 * time.Hour,
		},
		"relay vocals {\nrecover {\nbase {env.BASE}\nheader authorization \"Bearer {env.KEY}\"\nafter 1m\nevery 5s\nfor 1h\n}" + to: {
			Base: address("https://proxy.example.com/kie"), Header: http.Header{"Authorization": {"Bearer k3y"}},
			After: time.Minute, Every: 5 * time.Second, For: time.Hour,
		},
		"relay vocals {\nrecover https://api.example.com/info?key={env.KEY}" + to: {
			Details: address("https://api.example.com/info?key=k3y"), Header: http.Header{}, After: 10 * time.Minute, Every: 30 * time.Second, For: 24 * time.Hour,
		},
	} {
		src := build(t, adaptedHandler(t, text))
		if !reflect.DeepEqual(src.Recover, want) {
			t.Errorf("%s: got %+v", text, src.Recover)
		}
		if _, ok := src.Provider.(relay.DetailsReader); !ok {
			t.Errorf("%s: %T cannot be asked", text, src.Provider)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, expected := range map[string]string{
		`"72h"`: `"72h"`, `"3d"`: `"72h"`, `"1m"`: `"1m"`, `"90s"`: `"1m30s"`, `"1h0m5s"`: `"1h0m5s"`,
		`"250ms"`: `"250ms"`, `1000000000`: `"1s"`, `"10m"`: `"10m"`, `"1h30m"`: `"1h30m"`,
	} {
		var d Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got, err := json.Marshal(d); err != nil || string(got) != expected {
			t.Errorf("%s: got %s, %v; expected %s", text, got, err, expected)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Setenv("NAME", "value{env.HOME}") // what was put in is not expanded again
	secret := t.TempDir() + "/secret"
	writeFile(t, secret, "line\r\n")
	for in, expected := range map[string]string{
		"":                                 "",
		"plain":                            "plain",
		"a {env.NAME} b":                   "a value{env.HOME} b",
		"{file." + secret + "}/{env.NAME}": "line/value{env.HOME}",
		`\{env.NAME\}`:                     "{env.NAME}",
		"open {":                           "open {",
		"close }":                          "close }",
	} {
		if got, err := resolve(in); err != nil || got != expected {
			t.Errorf("%q: got %q, %v; expected %q", in, got, err, expected)
		}
	}
	for _, in := range []string{"{}", "{env.}", "{env}", "{http.request.body}", "{file.relative}", "{system.hostname}", "{env.UNSET_HERE}"} {
		if got, err := resolve(in); err == nil {
			t.Errorf("%q: got %q, expected an error", in, got)
		}
	}
}
