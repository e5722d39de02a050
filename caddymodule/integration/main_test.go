// Package integration tests the gateway as its users meet it: a real binary, real HTTPS, real kills.
//
// The binary is built from ../caddy, unless RELAY_CADDY names one. Only loopback is used.
package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// binary is the Caddy under test.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if binary = os.Getenv("RELAY_CADDY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "relay-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = servers.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
