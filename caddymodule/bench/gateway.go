package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// gateway is a running Caddy with all sites that a measurement needs.
type gateway struct {
	cmd     *exec.Cmd
	ended   chan error
	admin   string
	address string
	started time.Duration // from exec until the store is open
}

// start runs a gateway of a binary whose data are in the folder. store is the argument of its `store` option, which lines of
// other options may follow, and site holds the directives of its one site.
func (b *bench) start(binary, folder, store, site string) (*gateway, error) {
	admin, address, err := freeAddresses()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(b.dir, folder)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`{
	admin %s
	grace_period 5s
	log {
		level ERROR
	}
	relay {
		store %s
	}
}

http://%s {
	bind 127.0.0.1
%s
}
`, admin, store, address, site)
	file := filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	g := &gateway{admin: admin, address: address, ended: make(chan error, 1)}
	g.cmd = exec.Command(binary, "run", "--config", file, "--adapter", "caddyfile")
	g.cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	g.cmd.Stdout, g.cmd.Stderr = os.Stderr, os.Stderr
	begun := time.Now()
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { g.ended <- g.cmd.Wait() }()
	if err := g.poll(time.Minute, func() (bool, error) {
		status, err := g.status()
		return err == nil && status.Store.Up, nil
	}); err != nil {
		return nil, errors.Join(err, g.stop())
	}
	g.started = time.Since(begun)
	return g, nil
}

// poll waits until done says so.
func (g *gateway) poll(within time.Duration, done func() (bool, error)) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-again.C:
		case err := <-g.ended:
			g.ended <- err
			return fmt.Errorf("the gateway has ended: %w", err)
		case <-deadline.C:
			return fmt.Errorf("not done within %s", within)
		}
	}
}

func (g *gateway) stop() error {
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // fails only where it has ended
	return <-g.ended
}

// status holds the parts of /relay/status that the benchmark reads.
type status struct {
	Store struct {
		Up bool `json:"up"`
	} `json:"store"`
}

func (g *gateway) status() (s status, err error) {
	resp, err := http.Get("http://" + g.admin + "/relay/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// get reads an answer of the admin API.
func (g *gateway) get(path string) ([]byte, error) { return read("http://" + g.admin + path) }

// post asks the admin API for something, and reads the answer into v unless that is nil.
func (g *gateway) post(path, body string, v any) error {
	resp, err := http.Post("http://"+g.admin+path, "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s %s", path, resp.Status, text)
	case v == nil:
		return nil
	}
	return json.Unmarshal(text, v)
}

// settled counts the deliveries of a source that this gateway has made, and whose settle is durable.
func (g *gateway) settled(source string) (int, error) {
	m, err := g.metrics()
	if err != nil {
		return 0, err
	}
	n, err := m.sum("caddy_relay_attempts_total", `result="delivered"`, fmt.Sprintf("source=%q", source))
	return int(n), err
}

// metrics holds all metrics of a gateway, as they are exposed.
type metrics string

func (g *gateway) metrics() (metrics, error) {
	text, err := g.get("/metrics")
	return metrics(text), err
}

// sum returns the sum of a metric's series that have all of the labels: 0 where there is none.
func (m metrics) sum(name string, labels ...string) (sum float64, err error) {
	for line := range strings.Lines(string(m)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if found, _, _ := strings.Cut(series, "{"); found != name ||
			slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// pause holds a destination, so that its deliveries are stored and nothing more.
func (g *gateway) pause(source, destination string) error {
	return g.post(api.PausePath(source, destination), "", nil)
}

// memory returns the resident memory of the gateway, now and at its highest, in MiB.
func (g *gateway) memory() (now, highest int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.Atoi(fields[1])
		switch fields[0] {
		case "VmRSS:":
			now = kib / 1024
		case "VmHWM:":
			highest = kib / 1024
		}
	}
	return now, highest, nil
}

// freeAddresses returns two addresses that nobody listens on.
func freeAddresses() (string, string, error) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", errors.Join(err, first.Close())
	}
	return first.Addr().String(), second.Addr().String(), errors.Join(first.Close(), second.Close())
}
