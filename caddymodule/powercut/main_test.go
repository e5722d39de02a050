// Package powercut tests what a loss of power leaves of what the gateway has answered.
//
// A real gateway works under strace, which records its system calls. From them the disk is known at every instant: what
// was synced is certainly there, and of the rest as much as chance has it, in any order and torn. So one recording allows
// for any number of cuts. After each the store is opened on what is left, and must have all that was answered before: the
// answers stand in the recording too.
package powercut

import (
	"os"
	"strconv"
	"testing"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// binary is the Caddy under test.
var binary string

func TestMain(m *testing.M) { os.Exit(servers.Main(&binary, m.Run)) }

// cuts returns how often the power is cut in a recording: RELAY_POWER_CUTS times, or by default as often as time allows in
// `make test`.
func cuts(t *testing.T, byDefault int) int {
	t.Helper()
	text := os.Getenv("RELAY_POWER_CUTS")
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("RELAY_POWER_CUTS: %v", err)
	}
	return n
}
