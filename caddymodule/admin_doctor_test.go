package caddymodule

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

func states(checks []api.Check) (list []string) {
	for _, c := range checks {
		list = append(list, strings.Join([]string{c.Name, c.Subject, c.State}, " "))
	}
	return list
}

// TestDoctor examines a gateway as it runs.
func TestDoctor(t *testing.T) {
	g := newGateway(t)
	c := newConsumer(t, http.StatusOK)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	checked := handlerConfig(t, map[string]any{"source": "checked", "allow": []string{"127.0.0.1"}}, map[string]any{"url": "http://" + closed.Addr().String() + "/hook"})
	g.mustLoad(`{}`, to(t, c.URL, nil), checked)
	answer := mustAdmin(t, http.MethodGet, "/relay/doctor", "")
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	var doctor api.Doctor
	if err := json.Unmarshal(text, &doctor); err != nil {
		t.Fatal(err)
	}
	got := states(doctor.Checks)
	for _, want := range []string{
		"catch_all vocals warning", "catch_all checked warning", "open_source vocals warning", "open_source checked ok", "clock  ok",
		"destination vocals/billing ok", "destination checked/billing error",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if doctor.OK {
		t.Error("all is well with a destination that does not answer")
	}
	if first := doctor.Checks[0]; first.Name != "public_name" || first.State != api.CheckWarning {
		t.Errorf("first: %+v", first)
	}
	for _, c := range doctor.Checks {
		if !strings.HasSuffix(c.Message, ".") {
			t.Errorf("no sentence: %q", c.Message)
		}
	}
}

// TestDoctorSites finds the names of relay routes, wherever they stand.
func TestDoctorSites(t *testing.T) {
	adapted, err := adapt(`{
		auto_https off
	}
	http://hooks.example.com, http://gone.example.com, http://inside.example.com {
		handle_path /a/* {
			relay vocals {
				to https://billing.example.com/hook
			}
		}
		respond 404
	}
	http://other.example.com {
		respond 200
	}
	http://inside.example.com:8081 {
		relay_health
		relay /callbacks/* stems {
			to https://billing.example.com/hook
		}
	}
	http://hooks.example.com:8082 {
		forward_auth localhost:9091 {
			uri /auth
		}
		relay /callbacks/* drums {
			to https://billing.example.com/hook
		}
	}
	http://localhost {
		relay vocals {
			to https://billing.example.com/hook
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]*caddyhttp.Server
			}
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	x := &examination{lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
		switch host {
		case "hooks.example.com":
			return []netip.Addr{netip.MustParseAddr("203.0.113.1")}, nil
		case "inside.example.com":
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		}
		return nil, errors.New("no such host")
	}}
	x.sites(t.Context(), config.Apps.HTTP.Servers)
	got := states(x.checks)
	for _, want := range []string{
		"public_name hooks.example.com ok", "public_name gone.example.com error", "public_name inside.example.com warning",
		"public_name localhost warning", "certificate hooks.example.com warning", "catch_all srv0 ok",
		"reached stems error", "catch_all drums warning",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if strings.Contains(strings.Join(got, ","), "other.example.com") {
		t.Errorf("a site without relay is examined: %q", got)
	}
	x = new(examination)
	x.sites(t.Context(), nil)
	if got := states(x.checks); !slices.Equal(got, []string{"public_name  error"}) {
		t.Errorf("no site: %q", got)
	}
}

// TestDoctorCertificate warns when Caddy is late with a renewal, be it of 90 days or of the 12 hours of its internal issuer.
func TestDoctorCertificate(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		life, left time.Duration
		want       string
	}{
		{90 * day, 8 * day, api.CheckOK},
		{90 * day, 6 * day, api.CheckWarning},
		{90 * day, 0, api.CheckError},
		{6 * day, 2 * day, api.CheckOK},
		{6 * day, day - time.Hour, api.CheckWarning},
		{12 * time.Hour, 12 * time.Hour, api.CheckOK},
		{12 * time.Hour, 4 * time.Hour, api.CheckOK},
		{12 * time.Hour, time.Hour, api.CheckWarning},
		{12 * time.Hour, -time.Hour, api.CheckError},
	} {
		cert := &x509.Certificate{NotBefore: start, NotAfter: start.Add(c.life)}
		x := new(examination)
		x.lifetime("hooks.example.com", cert, cert.NotAfter.Add(-c.left))
		if got := states(x.checks); !slices.Equal(got, []string{"certificate hooks.example.com " + c.want}) {
			t.Errorf("%v, %v left: %q", c.life, c.left, got)
		}
	}
	x := new(examination)
	x.lifetime("hooks.example.com", nil, start)
	if got := states(x.checks); !slices.Equal(got, []string{"certificate hooks.example.com " + api.CheckError}) {
		t.Errorf("no certificate: %q", got)
	}
}

func TestDoctorStore(t *testing.T) {
	redis := func(policy, appendonly, fsync string) engine.StoreStatus {
		return engine.StoreStatus{Up: true, StoreInfo: relay.StoreInfo{FreeBytes: -1, EvictionPolicy: policy, AppendOnly: appendonly, AppendFsync: fsync}}
	}
	for name, tc := range map[string]struct {
		status engine.Status
		want   []string
	}{
		"sqlite":    {engine.Status{Store: engine.StoreStatus{Up: true, StoreInfo: relay.StoreInfo{FreeBytes: 4 << 30}}}, []string{"store  ok", "disk  ok"}},
		"no room":   {engine.Status{Store: engine.StoreStatus{Error: "full", StoreInfo: relay.StoreInfo{FreeBytes: 1 << 20}}}, []string{"store  error", "disk  warning"}},
		"redis":     {engine.Status{Store: redis("noeviction", "yes", "everysec"), Spool: &engine.SpoolStatus{Up: true, FreeBytes: 64 << 20}}, []string{"store  ok", "redis_policy  ok", "redis_persistence  ok", "spool  ok", "disk  ok"}},
		"forgetful": {engine.Status{Store: redis("allkeys-lru", "no", "no"), Drift: true}, []string{"store  ok", "redis_policy  error", "redis_persistence  error", "nodes  warning"}},
		"silent":    {engine.Status{Store: redis("unknown", "unknown", "unknown"), Spool: &engine.SpoolStatus{Error: "no disk", FreeBytes: -1}}, []string{"store  ok", "redis_policy  warning", "redis_persistence  warning", "spool  error"}},
		"lax":       {engine.Status{Store: redis("noeviction", "yes", "no"), Spool: &engine.SpoolStatus{Up: true, Stuck: 2, FreeBytes: 4 << 20}}, []string{"store  ok", "redis_policy  ok", "redis_persistence  warning", "spool  warning", "disk  warning"}},
	} {
		x := new(examination)
		x.store(&tc.status)
		if got := states(x.checks); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, expected %q", name, got, tc.want)
		}
	}
}

// TestHealth asks a gateway as a load balancer does.
func TestHealth(t *testing.T) {
	g := newGateway(t)
	health := map[string]any{"handler": "relay_health"}
	g.mustLoad(`{}`, handlerConfig(t, nil, nil), health)
	ask := func(method, query string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://gateway/health"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var answer struct{ Status, Error, Message string }
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil && method != http.MethodHead {
			t.Fatal(err)
		}
		if answer.Error != "" && !strings.HasSuffix(answer.Message, ".") {
			t.Errorf("no sentence: %q", answer.Message)
		}
		return res.StatusCode, answer.Status + answer.Error
	}
	for _, tc := range []struct {
		method, query string
		status        int
		answer        string
	}{
		{"GET", "", 200, "ok"}, {"GET", "?ready", 200, "ok"}, {"HEAD", "", 200, ""}, {"POST", "", 405, "method_not_allowed"},
	} {
		if status, answer := ask(tc.method, tc.query); status != tc.status || answer != tc.answer {
			t.Errorf("%s %s: %d %s", tc.method, tc.query, status, answer)
		}
	}
	app := activeApp(t)
	if err := app.pooled.Close(); err != nil { // as at a stop
		t.Fatal(err)
	}
	if status, answer := ask(http.MethodGet, ""); status != http.StatusServiceUnavailable || answer != "unavailable" {
		t.Errorf("closed: %d %s", status, answer)
	}
}

// TestHealthDuringShutdownDelay: a gateway leaves its load balancer while callbacks are still accepted.
func TestHealthDuringShutdownDelay(t *testing.T) {
	g := newGateway(t)
	web := map[string]any{
		"shutdown_delay": "300ms", "grace_period": "5s",
		"servers": map[string]any{"srv0": map[string]any{
			"listen": []string{"unix/" + g.socket()}, "automatic_https": map[string]any{"disable": true},
			"routes": []any{map[string]any{"handle": []any{map[string]any{"handler": "relay_health"}}}},
		}},
	}
	if err := g.load(`{}`, map[string]any{"http": web}); err != nil {
		t.Fatal(err)
	}
	status := func(query string) int {
		res, err := g.client.Get("http://gateway/" + query)
		if err != nil {
			return 0
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if got := status("?ready"); got != http.StatusOK {
		t.Fatalf("before the stop: %d", got)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- caddy.Stop() }()
	drained := false
	eventually(t, "the listener to close", func() bool {
		ready, alive := status("?ready"), status("")
		drained = drained || ready == http.StatusServiceUnavailable && alive == http.StatusOK
		return ready == 0
	})
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if !drained {
		t.Error("it was never unready while it took callbacks")
	}
}
