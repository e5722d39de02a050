package caddymodule

import (
	"os"
	"os/exec"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
)

// TestTransportClient leaves to Caddy's transport whatever the lean client does not do.
func TestTransportClient(t *testing.T) {
	if os.Getenv("RELAY_TEST_CHILD") != "" {
		wantClient(t, "http://billing.example.com", "", "caddy")
		wantClient(t, "http://direct.example.com", "", "lean")
		wantClient(t, "http://billing.example.com", `{"protocol":"http","network_proxy":{"from":"none"}}`, "caddy")
		return
	}
	for _, test := range []struct{ url, options, want string }{
		{"http", ``, "lean"},
		{"https", ``, "caddy"}, // which speaks HTTP/2 where the consumer does
		{"https", `,"versions":["1.1"]`, "lean"},
		{"https", `,"versions":["1.1"],"tls":{}`, "lean"},
		{"https", `,"versions":["1.1","2"]`, "caddy"},
		{"https", `,"versions":["1.1"],"tls":{"server_name":"x.example.com"}`, "caddy"},
		{"https", `,"versions":["3"]`, "caddy"},
		{"http", `,"versions":["h2c"]`, "caddy"},
		{"http", `,"versions":["1.1","2"]`, "lean"},
		{"http", `,"compression":true`, "caddy"},
		{"http", `,"compression":false`, "lean"},
		{"http", `,"keep_alive":{"enabled":false}`, "caddy"},
		{"http", `,"keep_alive":{"enabled":true,"idle_timeout":"1m","max_idle_conns":3,"probe_interval":"5s"}`, "lean"},
		{"http", `,"dial_timeout":"1s","dial_fallback_delay":"1s","resolver":{"addresses":["192.0.2.1"]},"local_address":"127.0.0.1"`, "lean"},
		{"http", `,"max_response_header_size":1024`, "lean"},
		{"http", `,"max_conns_per_host":3`, "caddy"},
		{"http", `,"response_header_timeout":"1s"`, "caddy"},
		{"http", `,"read_timeout":"1s"`, "caddy"},
		{"http", `,"write_timeout":"1s"`, "caddy"},
		{"http", `,"read_buffer_size":1024`, "caddy"},
		{"http", `,"expect_continue_timeout":"1s"`, "caddy"},
		{"http", `,"network_proxy":{"from":"url","url":"http://127.0.0.1:2"}`, "caddy"},
		{"http", `,"forward_proxy_url":"http://127.0.0.1:2"`, "caddy"},
	} {
		wantClient(t, test.url+"://billing.example.com", `{"protocol":"http"`+test.options+`}`, test.want)
	}
	wantClient(t, "http://billing.example.com", "", "lean")
	wantClient(t, "https://billing.example.com", "", "caddy")

	// The environment's proxies are read only once in a process.
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTransportClient$")
	child.Env = append(os.Environ(), "RELAY_TEST_CHILD=1", "HTTP_PROXY=http://127.0.0.1:1", "NO_PROXY=direct.example.com")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func wantClient(t *testing.T, url, transport, want string) {
	t.Helper()
	config := `{"source":"a","destinations":[{"url":"` + url + `"`
	if transport != "" {
		config += `,"transport":` + transport
	}
	if got := courier.ClientOf(build(t, config+`}]}`).Destinations[0]); got != want {
		t.Errorf("%s by %s is sent by %s, want %s", url, transport, got, want)
	}
}
