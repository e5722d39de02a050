package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// gateway is one gateway with its own store, CA and ports. Its process comes and goes.
type gateway struct {
	t       *testing.T
	home    string // of data and configuration
	address string // of its HTTPS site
	admin   string
	options string // in the `relay` global option
	client  *http.Client
	process *process
}

func newGateway(t *testing.T, options ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, home: t.TempDir(), address: freeAddress(t), admin: freeAddress(t), options: strings.Join(options, "\n")}
	dialer := &net.Dialer{Timeout: patience}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // as curl -k: the CA is the gateway's own
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, g.address)
		},
	}
	g.client = &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(transport.CloseIdleConnections)
	return g
}

// noCleaning keeps Caddy's first cleaning of its storage from deleting the folder of a certificate that is being obtained, since
// it is empty: Caddy would wait a minute before it tried again.
const noCleaning = "storage_clean_interval off"

// caddyfile puts a site's directives into a whole configuration.
func (g *gateway) caddyfile(site string) string {
	_, port, _ := net.SplitHostPort(g.address)
	return fmt.Sprintf(`{
	admin %s
	https_port %s
	auto_https disable_redirects
	skip_install_trust
	%s
	grace_period 2s
	metrics
	log {
		exclude admin.api
	}
	relay {
		%s
	}
}

localhost {
	bind 127.0.0.1
	%s
}
`, g.admin, port, noCleaning, g.options, site)
}

// start runs the gateway with a site's directives and waits until it serves.
func (g *gateway) start(site string) {
	g.t.Helper()
	g.startFile(g.caddyfile(site))
}

// startFile runs the gateway with a whole configuration.
func (g *gateway) startFile(caddyfile string) {
	g.t.Helper()
	g.process = startCaddy(g.t, g.home, "run", "--config", g.write(caddyfile), "--adapter", "caddyfile")
	g.process.waitFor(g.t, "serving initial configuration")
	g.awaitSite()
}

// awaitSite waits until the gateway has a certificate.
func (g *gateway) awaitSite() {
	g.t.Helper()
	eventually(g.t, patience, "the gateway has a certificate", func() bool {
		conn, err := tls.Dial("tcp", g.address, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// write writes a configuration to a file, and returns its name.
func (g *gateway) write(caddyfile string) string {
	g.t.Helper()
	file := filepath.Join(g.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return file
}

// kill ends the gateway as a power cut would.
func (g *gateway) kill() { g.process.Kill() }

// stop asks the gateway to end and gives how long it took.
func (g *gateway) stop() time.Duration {
	g.t.Helper()
	start := time.Now()
	if err := g.process.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		g.t.Fatal(err)
	}
	select {
	case <-g.process.Ended:
	case <-time.After(2 * patience):
		g.t.Fatal("the gateway does not stop")
	}
	return time.Since(start)
}

// database returns the path of the gateway's store.
func (g *gateway) database() string { return filepath.Join(g.home, "caddy", "relay", "relay.db") }

// answer holds the answer to a sender.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) eventID() string { return a.header.Get("Relay-Event-Id") }

// post sends a callback.
func (g *gateway) post(path, body string) answer {
	g.t.Helper()
	a, err := g.try(path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

// try sends a callback to a gateway that may be away.
func (g *gateway) try(path, body string) (answer, error) {
	req, err := http.NewRequest(http.MethodPost, "https://localhost"+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	return send(g.client, req)
}

func send(client *http.Client, req *http.Request) (answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// accept posts a callback that must be accepted as a new event, and gives its id.
func (g *gateway) accept(path, body string) string {
	g.t.Helper()
	a := g.post(path, body)
	if a.status != http.StatusOK || a.eventID() == "" || a.header.Get("Relay-Duplicate") != "" {
		g.t.Fatalf("not accepted as a new event: %+v", a)
	}
	return a.eventID()
}

// process is a Caddy with its log.
type process struct{ *servers.Process }

func startCaddy(t *testing.T, home string, args ...string) *process {
	t.Helper()
	return startProcess(t, caddy(home, args...))
}

func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	started, err := servers.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{started}
	t.Cleanup(func() {
		p.Kill()
		for _, alarm := range []string{"panic", "DATA RACE"} {
			if lines := p.Logged(alarm); len(lines) > 0 {
				t.Errorf("the gateway logs %s", lines[0])
			}
		}
		if t.Failed() {
			p.dump(t)
		}
	})
	return p
}

// caddy returns a command of the binary, with a home of its own.
func caddy(home string, args ...string) *exec.Cmd { return servers.Caddy(binary, home, args...) }

// waitFor waits for a line of the log, which must come.
func (p *process) waitFor(t *testing.T, text string) {
	t.Helper()
	if !p.Await(text, patience) {
		t.Fatalf("the gateway does not log %q", text)
	}
}

func (p *process) dump(t *testing.T) {
	t.Helper()
	t.Logf("the last lines of the gateway's log:\n%s", strings.Join(p.Last(40), "\n"))
}
