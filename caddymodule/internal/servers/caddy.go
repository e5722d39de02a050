package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// gateway is the package of the gateway's binary.
const gateway = "github.com/callbackrelay/caddy-relay/caddymodule/caddy"

// Build builds the gateway's binary in a folder, and returns its path.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "caddy")
	build := exec.Command("go", "build", "-o", binary, gateway)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building the gateway: %w", err)
	}
	return binary, nil
}

// Caddy returns a command of a gateway's binary, which keeps its data below home.
func Caddy(binary, home string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	return cmd
}
