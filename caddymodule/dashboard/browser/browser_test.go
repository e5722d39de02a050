// Package browser tests the dashboard as its users meet it: a real gateway, real consumers, and a headless Chromium that
// sees, clicks and types. The steps are in dashboard.test.mjs.
package browser

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// patience is how long the whole test may take.
const patience = 4 * time.Minute

// TestDashboard runs the steps against the Caddy that RELAY_CADDY names, or one that is built here.
func TestDashboard(t *testing.T) {
	if _, err := os.Stat("node_modules/playwright-core"); err != nil {
		t.Fatal("playwright-core is not installed: run `make browser`")
	}
	binary, err := servers.Binary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var addresses [2]string
	for i := range addresses {
		if addresses[i], err = servers.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	steps := exec.CommandContext(ctx, "node", "--test", "--test-reporter=spec", "dashboard.test.mjs")
	steps.Env = append(os.Environ(), "RELAY_CADDY="+binary, "RELAY_HOME="+t.TempDir(), "RELAY_ADDRESS="+addresses[0], "RELAY_ADMIN="+addresses[1])
	steps.Cancel = func() error { return steps.Process.Signal(os.Interrupt) } // it ends the gateway and the browser
	steps.WaitDelay = 10 * time.Second
	out, err := steps.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
