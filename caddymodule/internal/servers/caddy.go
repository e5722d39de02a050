package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The packages of this repository that Build is asked for.
const (
	Gateway = "github.com/callbackrelay/caddy-relay/caddymodule/caddy"
	Fill    = "github.com/callbackrelay/caddy-relay/internal/fill"
)

// Build builds the binary of a package in a folder, and returns its path.
func Build(dir, pkg string) (string, error) {
	binary := filepath.Join(dir, filepath.Base(pkg))
	build := exec.Command("go", "build", "-o", binary, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building %s: %w", pkg, err)
	}
	return binary, nil
}

// Binary returns the path of the gateway's binary: the one that RELAY_CADDY names, or one that is built in dir.
func Binary(dir string) (string, error) {
	if named := os.Getenv("RELAY_CADDY"); named != "" {
		return named, nil
	}
	return Build(dir, Gateway)
}

// Main sets binary to the path of the gateway's binary, runs tests, and returns their exit code. A binary that was built for
// them is removed.
func Main(binary *string, tests func() int) int {
	dir, err := os.MkdirTemp("", "relay-gateway-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if *binary, err = Binary(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return tests()
}

// Caddy returns a command of a gateway's binary, which keeps its data below home.
func Caddy(binary, home string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	return cmd
}
