package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// patience is how long to wait for what should happen at once.
const patience = 30 * time.Second

// gateway is one gateway with a folder and ports of its own. Its process comes and goes.
type gateway struct {
	n       int
	binary  string
	home    string
	address string // of its site
	admin   string
	ledger  *ledger
	before  footprint  // what it used before the storm
	fate    sync.Mutex // held while it must not be killed by anyone else
	hold    sync.Mutex // held while it is suspended or traced; nobody else may do so then

	mu       sync.Mutex
	process  *servers.Process
	expected bool // that it runs
}

func newGateway(n int, binary, home string, l *ledger) (*gateway, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	address, err := servers.FreeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := servers.FreeAddress()
	if err != nil {
		return nil, err
	}
	return &gateway{n: n, binary: binary, home: home, address: address, admin: admin, ledger: l}, nil
}

// configure sets the configuration of the next start.
func (g *gateway) configure(config string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	fresh := g.file() + ".new" // a gateway that starts just now reads all of the file
	if err := os.WriteFile(fresh, []byte(config), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, g.file())
}

// file returns the path of the configuration, which is not on the disk of the data: that may be full.
func (g *gateway) file() string { return g.home + ".caddyfile" }

// database returns the path of an embedded store.
func (g *gateway) database() string { return filepath.Join(g.home, "caddy", "relay", "relay.db") }

// start runs the process, and returns when it serves.
func (g *gateway) start() error {
	process, err := servers.Start(servers.Caddy(g.binary, g.home, "run", "--config", g.file(), "--adapter", "caddyfile"))
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.process, g.expected = process, true
	g.mu.Unlock()
	if !process.Await("serving initial configuration", patience) {
		return fmt.Errorf("gateway %d does not start:\n%s", g.n, strings.Join(process.Last(20), "\n"))
	}
	return nil
}

// running returns the process.
func (g *gateway) running() *servers.Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.process
}

// kill ends the process as a crash would.
func (g *gateway) kill() {
	process := g.release()
	process.Kill()
	g.check(process)
}

// release returns the process, which may end from now on. It records a violation if that has ended by itself.
func (g *gateway) release() *servers.Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.process; g.expected && p.HasEnded() {
		g.ledger.violates("ended", "gateway %d ended by itself with %s:\n%s", g.n, p.Cmd.ProcessState, strings.Join(p.Last(30), "\n"))
	}
	g.expected = false
	return g.process
}

// check records a violation if a process that has ended has logged a panic.
func (g *gateway) check(p *servers.Process) {
	for _, alarm := range []string{"panic", "DATA RACE", "fatal error"} {
		if lines := p.Logged(alarm); len(lines) > 0 {
			g.ledger.violates("ended", "gateway %d logs %s", g.n, lines[0])
		}
	}
}

// stop ends the process in good order.
func (g *gateway) stop() error {
	process := g.release()
	if process == nil {
		return nil
	}
	_ = process.Cmd.Process.Signal(syscall.SIGCONT)
	err := process.Stop(patience)
	if err != nil {
		process.Kill()
	}
	g.check(process)
	return err
}

// adminClient keeps no connections: each reload replaces the admin server, which then closes those it has.
var adminClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * patience}

// call sends a request to the admin endpoint. A body that is a text is a Caddyfile, any other is sent as JSON. An answer of 200
// is decoded into out unless that is nil, or copied if that is a *string.
func (g *gateway) call(ctx context.Context, method, path string, body, out any) (status int, err error) {
	contentType, payload := "application/json", []byte(nil)
	switch body := body.(type) {
	case nil:
	case string:
		contentType, payload = "text/caddyfile", []byte(body)
	default:
		if payload, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.admin+path, bytes.NewReader(payload))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := adminClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return resp.StatusCode, err
	case resp.StatusCode != http.StatusOK:
		return resp.StatusCode, fmt.Errorf("%s: %s: %s", path, resp.Status, bytes.TrimSpace(answer))
	}
	switch out := out.(type) {
	case nil:
	case *string:
		*out = string(answer)
	default:
		err = json.Unmarshal(answer, out)
	}
	return resp.StatusCode, err
}

// load replaces the configuration, and keeps it for the next start.
func (g *gateway) load(ctx context.Context, config string) error {
	if _, err := g.call(ctx, http.MethodPost, "/load", config, nil); err != nil {
		return err
	}
	return g.configure(config)
}

// status returns the gateway's status.
func (g *gateway) status(ctx context.Context) (s api.Status, err error) {
	_, err = g.call(ctx, http.MethodGet, api.PathStatus, nil, &s)
	return s, err
}

// eachEvent lists all events.
func (g *gateway) eachEvent(ctx context.Context, do func(api.Event)) error {
	for cursor := ""; ; {
		var page api.Events
		// A busy machine may not have a page in time.
		err := until(ctx, 2*patience, "a page of events", func() error {
			page = api.Events{}
			_, err := g.call(ctx, http.MethodGet, api.PathEvents+"?limit=200&cursor="+cursor, nil, &page)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			do(e)
		}
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}

// until waits until a condition holds. The condition's last error explains why it did not.
func until(ctx context.Context, within time.Duration, what string, holds func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := holds()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-deadline.C:
			return fmt.Errorf("not within %s: %s: %w", within, what, err)
		}
	}
}

// wait waits for a time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	select {
	case <-end.C:
	case <-ctx.Done():
	}
}
