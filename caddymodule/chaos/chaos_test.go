package chaos_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/caddymodule/chaos"
	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestChaos is the short form of `make chaos`: one seed for each store. What a seed finds can be looked at by
// `make chaos SEED=… STORE=…`.
func TestChaos(t *testing.T) {
	t.Parallel()
	binary, err := servers.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for store, seed := range map[string]uint64{"sqlite": 11, "redis": 7} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			report, err := chaos.Run(t.Context(), chaos.Options{
				Binary: binary, Dir: t.TempDir(), Store: store, Seed: seed, Rate: 100, Duration: 6 * time.Second,
				Log: func(line string) { t.Log(line) },
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Log(report)
			if report.Failed() {
				t.Error("what was promised is violated")
			}
		})
	}
}
