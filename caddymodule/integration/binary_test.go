package integration

import (
	"debug/buildinfo"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestBinary: the binary has the modules, takes the shipped Caddyfile, and is made of the versions that were tested.
func TestBinary(t *testing.T) {
	t.Run("list-modules", func(t *testing.T) {
		modules := strings.Fields(output(t, caddy(t.TempDir(), "list-modules", "--skip-standard")))
		for _, want := range []string{
			"relay", "http.handlers.relay", "admin.api.relay", "relay.stores.sqlite",
			"relay.providers.suno", "relay.providers.kie", "relay.providers.custom",
			"relay.verifiers.hmac", "relay.verifiers.standard_webhooks", "relay.verifiers.kie", "relay.verifiers.token",
		} {
			if !slices.Contains(modules, want) {
				t.Errorf("%s is missing", want)
			}
		}
	})
	t.Run("validate", func(t *testing.T) {
		output(t, caddy(t.TempDir(), "validate", "--config", "../../Caddyfile", "--adapter", "caddyfile"))
	})
	t.Run("versions", func(t *testing.T) {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		built := map[string]string{}
		for _, module := range info.Deps {
			built[module.Path] = module.Version
		}
		for line := range strings.Lines(output(t, exec.Command("go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "all"))) {
			path, want, _ := strings.Cut(strings.TrimSpace(line), " ")
			if version := built[path]; version != "" && want != "" && version != want {
				t.Errorf("%s is built in as %s, and tested as %s", path, version, want)
			}
		}
		for _, path := range []string{"github.com/caddyserver/caddy/v2", "modernc.org/libc"} {
			if built[path] == "" {
				t.Errorf("%s is not built in", path)
			}
		}
	})
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, errors.String())
	}
	return string(out)
}
