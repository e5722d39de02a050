package powercut

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// patience is how long a test waits for what must happen, on a machine that may be busy.
const patience = 60 * time.Second

// gateway is a gateway under strace. Its process comes and goes; its disk stays.
type gateway struct {
	t         *testing.T
	home      string
	address   string
	caddyfile string
	command   *exec.Cmd
	log       bytes.Buffer
	trace     string
	before    string   // a copy of the disk before the first start
	moments   []moment // of all processes
}

// newGateway returns a gateway that is to be configured.
func newGateway(t *testing.T) *gateway {
	t.Helper()
	if out, err := exec.Command("strace", "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		if strings.Contains(string(out), "Operation not permitted") {
			t.Skip("this machine lets nobody trace a process")
		}
		t.Fatalf("strace is needed for this test: %v, %s", err, out)
	}
	address, err := servers.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, home: t.TempDir(), address: address}
	g.before, g.caddyfile = filepath.Join(g.home, "before"), filepath.Join(g.home, "Caddyfile")
	if err := os.Mkdir(g.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if g.command != nil {
			g.signal(syscall.SIGKILL)
			_ = g.command.Wait()
		}
	})
	return g
}

// configure sets options of the app, and the directives of the gateway's site.
func (g *gateway) configure(options, site string) {
	g.t.Helper()
	content := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n\tgrace_period 2s\n\trelay {\n%s\n\t}\n}\n\nhttp://%s {\n%s\n}\n", options, g.address, site)
	if err := os.WriteFile(g.caddyfile, []byte(content), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// data returns the folder that stands for the disk.
func (g *gateway) data() string { return filepath.Join(g.home, "data") }

// makeFolder creates a folder on the disk, and does not sync its name.
func (g *gateway) makeFolder(name string) {
	g.t.Helper()
	g.copyDisk()
	path := filepath.Join(g.data(), name)
	if err := os.Mkdir(path, 0o700); err != nil {
		g.t.Fatal(err)
	}
	g.moments = append(g.moments, moment{&call{name: "mkdir", args: []string{path}}, true})
}

// copyDisk keeps what is on the disk before anything happens.
func (g *gateway) copyDisk() {
	g.t.Helper()
	if len(g.moments) > 0 {
		return
	}
	if err := os.CopyFS(g.before, os.DirFS(g.data())); err != nil {
		g.t.Fatal(err)
	}
}

// start starts the gateway, and waits until it serves. Each of its syncs is delayed: that makes it likely that it is
// killed in the middle of one.
func (g *gateway) start(delay time.Duration) {
	g.t.Helper()
	g.trace = filepath.Join(g.home, "trace")
	args := []string{"-f", "--seccomp-bpf", "-qq", "-xx", "-s", strconv.Itoa(64 << 20), "-e", "signal=none", "-e", "trace=" + traced, "-o", g.trace}
	if delay > 0 {
		args = append(args, "-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", delay.Microseconds()))
	}
	args = append(args, binary, "run", "--config", g.caddyfile, "--adapter", "caddyfile")
	g.copyDisk()
	g.log.Reset()
	g.command = exec.Command("strace", args...)
	g.command.Dir = g.home
	g.command.Env = append(os.Environ(), "XDG_DATA_HOME="+g.data(), "XDG_CONFIG_HOME="+filepath.Join(g.home, "config"), "HOME="+g.home)
	g.command.Stdout, g.command.Stderr = &g.log, &g.log
	if err := g.command.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.wait("the gateway serves", func() bool {
		conn, err := net.Dial("tcp", g.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// stop asks the gateway to end, and waits for that.
func (g *gateway) stop() {
	g.t.Helper()
	g.signal(syscall.SIGTERM)
	g.ended()
}

// signal sends a signal to the gateway itself, which is a child of strace.
func (g *gateway) signal(s syscall.Signal) {
	g.t.Helper()
	trace, err := os.Open(g.trace)
	if err != nil {
		g.t.Error(err)
		return
	}
	defer trace.Close()
	pid := 0
	if _, err = fmt.Fscan(trace, &pid); err == nil {
		err = syscall.Kill(pid, s)
	}
	if err != nil {
		g.t.Errorf("%v; the gateway says %s", err, g.log.String())
	}
}

// ended waits for the end of the gateway, and reads what it has done.
func (g *gateway) ended() {
	g.t.Helper()
	_ = g.command.Wait() // which returns the signal
	g.command = nil
	moments, err := readTrace(g.trace, len(g.moments))
	if err != nil {
		g.t.Fatal(err)
	}
	g.moments = append(append(g.moments, moments...), moment{&call{name: processEnds, args: []string{""}, number: len(g.moments) + len(moments)}, true})
}

// wait waits for a condition.
func (g *gateway) wait(what string, condition func() bool) {
	g.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !condition(); {
		select {
		case <-tick.C:
		case <-end:
			g.t.Fatalf("it never was that %s; the gateway says %s", what, g.log.String())
		}
	}
}

// post sends a callback. It returns the id of its event once it is answered 200.
func (g *gateway) post(client *http.Client, path, body string) (id string, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+g.address+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if id = resp.Header.Get("Relay-Event-Id"); resp.StatusCode != http.StatusOK || id == "" {
		return "", fmt.Errorf("answered %d: %s", resp.StatusCode, text)
	}
	return id, nil
}
