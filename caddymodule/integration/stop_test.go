package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestStopDrains: an attempt in flight at a stop ends, and is not made again.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "drain 10s")
	c := newConsumer(t)
	release := make(chan struct{})
	c.answersBy(func(*request, <-chan struct{}) int {
		<-release
		return http.StatusOK
	})
	site := `relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`
	g.start(site)
	id := g.accept("/vocals", callback(t, "a"))
	c.waitFor(1)
	// The consumer answers only after the gateway has begun to stop.
	running := g.process
	go func() {
		defer close(release)
		running.Await("shutting down apps", patience)
	}()
	if took := g.stop(); took > 9*time.Second {
		t.Errorf("the gateway stops after %s", took)
	}
	g.start(site)
	if e := g.event(id); e.State != "delivered" || c.count() != 1 {
		t.Errorf("after %d attempts the event shows as %+v", c.count(), e)
	}
}

// TestStopReleases: an attempt that outlasts the drain time is cut off, and made again after the start.
func TestStopReleases(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "drain 1s")
	c := newConsumer(t)
	c.answersBy(hangs)
	site := `relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`
	g.start(site)
	id := g.accept("/vocals", callback(t, "a"))
	c.waitFor(1)
	if took := g.stop(); took > 4*time.Second {
		t.Errorf("the gateway stops after %s, with a drain time of 1s", took)
	}
	c.answers(http.StatusOK)
	g.start(site)
	got := c.waitFor(2)[1]
	if got.event() != id || got.attempt() != "1" {
		t.Errorf("attempt %s of %s came after the start", got.attempt(), got.event())
	}
	eventually(t, patience, "everything is settled", g.settled)
}

// TestSecondGateway: a store has one process. Another that wants it ends, and says who has it.
func TestSecondGateway(t *testing.T) {
	t.Parallel()
	first := newGateway(t)
	c := newConsumer(t)
	site := `relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`
	first.start(site)
	second := newGateway(t)
	second.options = "store sqlite " + first.database()
	process := startCaddy(t, second.home, "run", "--config", second.write(second.caddyfile(site)), "--adapter", "caddyfile")
	select {
	case <-process.Ended:
	case <-time.After(2 * patience):
		t.Fatal("the second gateway runs")
	}
	holder := fmt.Sprintf("in use by process %d", first.process.Cmd.Process.Pid)
	if process.Cmd.ProcessState.ExitCode() == 0 || len(process.Logged(holder)) == 0 {
		t.Errorf("the second gateway ends with %s, and does not say %q", process.Cmd.ProcessState, holder)
	}
	first.accept("/vocals", callback(t, "a"))
	c.waitFor(1)
}
