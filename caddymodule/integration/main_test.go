// Package integration tests the gateway as its users meet it: a real binary, real HTTPS, real kills.
//
// The binary is built from ../caddy, unless RELAY_CADDY names one. Only loopback is used.
package integration

import (
	"os"
	"testing"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// binary is the Caddy under test.
var binary string

func TestMain(m *testing.M) { os.Exit(servers.Main(&binary, m.Run)) }
