package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// neighbour is another site of the same Caddy, which is asked all the time over a connection that is kept.
type neighbour struct {
	address string
	client  *http.Client
	stop    func()

	answers atomic.Int64
	mu      sync.Mutex
	failed  []error
}

// withNeighbour adds the site to a configuration.
func withNeighbour(t *testing.T, caddyfile string) (*neighbour, string) {
	t.Helper()
	n := &neighbour{address: freeAddress(t)}
	n.client = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: patience}
	t.Cleanup(n.client.CloseIdleConnections)
	return n, caddyfile + "\nhttp://" + n.address + " {\n\tbind 127.0.0.1\n\trespond \"still here\"\n}\n"
}

// watch asks until stop is called.
func (n *neighbour) watch(t *testing.T) {
	t.Helper()
	if err := n.ask(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() {
		pace(ctx, "", 50, func(int, string) {
			if err := n.ask(); err != nil {
				n.mu.Lock()
				n.failed = append(n.failed, err)
				n.mu.Unlock()
			}
		})
	})
	n.stop = func() { cancel(); asking.Wait() }
	t.Cleanup(n.stop)
}

func (n *neighbour) ask() error {
	resp, err := n.client.Get("http://" + n.address)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "still here" {
		return fmt.Errorf("%d %q %w", resp.StatusCode, body, err)
	}
	n.answers.Add(1)
	return nil
}

// check ends the watch. The other site must have been served all the while.
func (n *neighbour) check(t *testing.T) {
	t.Helper()
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	t.Logf("the other site answered %d times", n.answers.Load())
	if len(n.failed) > 0 {
		t.Errorf("the other site failed %d times, such as %v", len(n.failed), n.failed[0])
	}
}

// hold is how long a fault lasts; RELAY_HARM_SECONDS sets it for a long run.
func hold(t *testing.T) time.Duration {
	t.Helper()
	return seconds(t, "RELAY_HARM_SECONDS", 2)
}

// during posts callbacks, which get 200 or 503, while a fault lasts, and counts the answers by status.
func (g *gateway) during(fault string) map[int]int {
	g.t.Helper()
	statuses := map[int]int{}
	end := time.NewTimer(hold(g.t))
	defer end.Stop()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for n := 0; ; n++ {
		select {
		case <-g.process.Ended:
			g.t.Fatalf("%s: the gateway ended with %s", fault, g.process.Cmd.ProcessState)
		case <-end.C:
			return statuses
		case <-pause.C:
		}
		a := g.post("/vocals", callback(g.t, fmt.Sprintf("%s-%d", fault, n)))
		if statuses[a.status]++; a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
			g.t.Errorf("%s: a callback gets %d %s", fault, a.status, a.body)
		}
	}
}

// TestHarmedFiles removes, replaces and cuts the files of the store one by one, under load. The process and its other sites
// do not notice; callbacks get 200 or 503, every 200 is delivered in the end, and the gateway is healthy once the file is
// back, where it does not mend it by itself.
func TestHarmedFiles(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	neighbour, config := withNeighbour(t, g.caddyfile(`relay /vocals vocals {
		to consumer `+c.URL()+` {
			retry exponential 100ms 1s 100
		}
	}`))
	g.startFile(config)
	neighbour.watch(t)
	load := g.startLoad("/vocals", "load", 100, false)
	load.reach(t, 50)

	db := g.database()
	away := func(file string) string { return file + ".taken" }
	take := func(file string) error { return os.Rename(file, away(file)) }
	replace := func(file string) error {
		return errors.Join(take(file), os.WriteFile(file, make([]byte, 8<<10), 0o600))
	}
	putBack := func(file string) error { return os.Rename(away(file), file) }
	cut := func(file string) error { return os.Truncate(file, 0) }
	none := func(string) error { return nil }
	for _, f := range []struct {
		fault, file string
		harm, mend  func(file string) error
	}{
		{"db-taken", db, take, putBack},
		{"db-replaced", db, replace, putBack},
		{"wal-removed", db + "-wal", os.Remove, none},
		{"wal-replaced", db + "-wal", replace, none},
		{"wal-cut", db + "-wal", cut, none},
		{"shm-removed", db + "-shm", os.Remove, none},
		{"shm-replaced", db + "-shm", replace, none},
		{"shm-cut", db + "-shm", cut, none},
	} {
		load.reach(t, 50)
		if err := f.harm(f.file); err != nil {
			t.Fatalf("%s: %v", f.fault, err)
		}
		statuses := g.during(f.fault)
		if err := f.mend(f.file); err != nil {
			t.Fatalf("%s: %v", f.fault, err)
		}
		eventually(t, patience, f.fault+": the store is healthy again", func() bool { return g.status().Store.Up })
		g.accept("/vocals", callback(t, f.fault))
		load.reach(t, 10)
		t.Logf("%s: answers by status %v", f.fault, statuses)
		if f.file == db && statuses[http.StatusServiceUnavailable] == 0 {
			t.Errorf("%s: no callback gets 503", f.fault)
		}
	}
	load.stop()
	g.deliveredAll(load, c)

	// What was cut from the database itself is gone. The gateway says so for as long as the file is there, and begins anew
	// without it.
	info, err := os.Stat(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(db, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	statuses := g.during("db-cut")
	t.Logf("db-cut: answers by status %v", statuses)
	if statuses[http.StatusServiceUnavailable] == 0 {
		t.Error("db-cut: no callback gets 503")
	}
	neighbour.check(t)
	g.stop()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(db + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	g.startFile(config)
	g.accept("/vocals", callback(t, "anew"))
}

// deliveredAll waits until every callback that was answered by 200 has been delivered.
func (g *gateway) deliveredAll(l *load, c *consumer) {
	g.t.Helper()
	missing := func() (n int) {
		delivered := map[string]bool{}
		for _, r := range c.requests() {
			delivered[r.event()] = delivered[r.event()] || r.status == http.StatusOK
		}
		for id := range l.answered {
			if !delivered[id] {
				n++
			}
		}
		return n
	}
	eventually(g.t, 2*patience, "every answered callback is delivered", func() bool { return missing() == 0 })
	g.t.Logf("%d callbacks answered by 200 and delivered, %d not answered by 200", len(l.answered), l.failed)
}

// TestDescriptors starts a gateway with a backlog and 256 descriptors, and 300 strangers who connect and say nothing. The
// process and its other sites do not notice, callbacks get 200 or 503, and all is well once the strangers have gone.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	const strangers = 300
	g := newGateway(t)
	c := newDownConsumer(t)
	neighbour, config := withNeighbour(t, g.caddyfile(`relay /vocals vocals {
		to consumer `+c.URL()+` {
			retry exponential 100ms 1s 1000
			breaker 3 1s
		}
	}`))
	g.startFile(config)
	g.storm("/vocals", callbacks(t, "backlog", 500), http.StatusOK)
	g.stop()
	g.client.CloseIdleConnections()

	run := caddy(g.home, "run", "--config", g.write(config), "--adapter", "caddyfile")
	limited := exec.Command("sh", append([]string{"-c", `ulimit -n 256 && exec "$@"`, "sh"}, run.Args...)...)
	limited.Env = run.Env
	g.process = startProcess(t, limited)
	g.process.waitFor(t, "serving initial configuration")
	neighbour.watch(t)
	g.awaitSite()
	g.post("/vocals", callback(t, "first")) // over a connection that is kept for those that follow

	ctx, cancel := context.WithCancel(context.Background())
	var idling sync.WaitGroup
	leave := sync.OnceFunc(func() { cancel(); idling.Wait() })
	t.Cleanup(leave)
	var connected atomic.Int64
	for range strangers {
		idling.Go(func() {
			for ctx.Err() == nil { // whoever is thrown out comes back
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", g.address)
				if err != nil {
					return
				}
				connected.Add(1)
				end := context.AfterFunc(ctx, func() { _ = conn.Close() })
				_, _ = io.Copy(io.Discard, conn)
				end()
				_ = conn.Close()
			}
		})
	}
	eventually(t, patience, "the strangers are here", func() bool { return connected.Load() >= strangers })
	c.up()
	t.Logf("%d strangers: answers by status %v", connected.Load(), g.during("strangers"))
	leave()
	eventually(t, patience, "the store is healthy again", func() bool { return g.status().Store.Up })
	g.accept("/vocals", callback(t, "last"))
	eventually(t, 2*patience, "everything is settled", g.settled)
	neighbour.check(t)
	if len(g.process.Logged("too many open files")) == 0 {
		t.Log("the log does not mention descriptors")
	}
	delivered := map[string]bool{}
	for _, r := range c.requests() {
		delivered[r.event()] = true
	}
	if len(delivered) < 502 {
		t.Errorf("%d of 502 events are delivered", len(delivered))
	}
}
