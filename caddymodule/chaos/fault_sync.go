package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// canTrace returns what is lacking for a change of a running process's system calls, or nothing.
func canTrace(*world) string {
	if err := exec.Command("strace", "-f", "-o", os.DevNull, "true").Run(); err != nil {
		return fmt.Sprintf("an strace that may trace (%v)", err)
	}
	return ""
}

// harmSyncs has syncs of a gateway's files fail, some or all, or take long. strace attaches itself to the running process for
// that, and lets it go: the system call is made late, or not at all. It harms the spool where a Redis is shared.
func harmSyncs(ctx context.Context, w *world, rng *rand.Rand) error {
	g := w.anyGateway(rng)
	g.hold.Lock()
	defer g.hold.Unlock()
	over := w.ledger.begin("syncs", g.n)
	defer over()
	kinds := []string{
		"error=EIO",
		"error=EIO:when=1+3",
		"error=ENOSPC:when=2+2",
		fmt.Sprintf("delay_enter=%d", between(rng, 20*time.Millisecond, time.Second).Microseconds()),
		fmt.Sprintf("delay_exit=%d:when=1+5", between(rng, time.Second, 4*time.Second).Microseconds()),
	}
	kind := kinds[rng.IntN(len(kinds))]
	pid := g.running().Cmd.Process.Pid
	tracer, err := servers.Start(exec.Command("strace", "-f", "-o", os.DevNull, "-e", "signal=none", "-e", "trace=fsync,fdatasync",
		"-e", "inject=fsync,fdatasync:"+kind, "-p", strconv.Itoa(pid)))
	if err != nil {
		return err
	}
	w.log("gateway %d: fsync,fdatasync:%s", g.n, kind)
	wait(ctx, between(rng, 500*time.Millisecond, 3*time.Second))
	// It leaves its process as it was. It may be gone with that.
	if err := tracer.Stop(patience); err != nil {
		tracer.Kill()
		return fmt.Errorf("tracing process %d: %w", pid, err)
	}
	return nil
}
