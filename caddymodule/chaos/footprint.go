package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// footprint counts what a gateway uses while nothing happens.
type footprint struct {
	goroutines, descriptors int
	heap                    int // bytes
}

// keptConnections is how many connections to consumers a gateway may keep for its next requests, for as long as a minute.
const keptConnections = slots * 6

// leftWithin is how long it may take until a gateway has closed what it keeps for a minute.
const leftWithin = 80 * time.Second

// exceeds returns in what a footprint exceeds an earlier one by more than chance, or nothing.
func (f footprint) exceeds(before footprint) string {
	switch {
	case f.goroutines > before.goroutines+before.goroutines/5+20:
		return fmt.Sprintf("%d goroutines, before %d", f.goroutines, before.goroutines)
	case f.descriptors > before.descriptors+15+keptConnections:
		return fmt.Sprintf("%d descriptors, before %d", f.descriptors, before.descriptors)
	case f.heap > 2*before.heap+64<<20:
		return fmt.Sprintf("%d KiB of memory in use, before %d", f.heap>>10, before.heap>>10)
	}
	return ""
}

// quiet closes all connections to a gateway, and measures it.
func (w *world) quiet(ctx context.Context, g *gateway) (f footprint, err error) {
	w.sender.close()
	for _, c := range w.consumers {
		m := c.now()
		if err := c.be(away); err != nil {
			return f, err
		}
		if err := c.be(m); err != nil {
			return f, err
		}
	}
	// A collection, so that what is in use can be told from what was.
	if _, err := g.call(ctx, http.MethodGet, "/debug/pprof/heap?gc=1", nil, nil); err != nil {
		return f, err
	}
	var metrics string
	if _, err := g.call(ctx, http.MethodGet, "/metrics", nil, &metrics); err != nil {
		return f, err
	}
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var measured *int
		switch name {
		case "go_goroutines":
			measured = &f.goroutines
		case "go_memstats_heap_alloc_bytes":
			measured = &f.heap
		default:
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return f, fmt.Errorf("/metrics: %s: %w", name, err)
		}
		*measured = int(n)
	}
	if f.goroutines == 0 || f.heap == 0 {
		return f, errors.New("/metrics lacks go_goroutines or go_memstats_heap_alloc_bytes")
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.running().Cmd.Process.Pid))
	f.descriptors = len(open)
	return f, err
}

// leaks checks that a gateway uses no more than before the storm; what was under way may take a moment to end.
func (w *world) leaks(ctx context.Context, g *gateway) {
	var f footprint
	err := until(ctx, leftWithin, "nothing is left behind", func() (err error) {
		wait(ctx, 300*time.Millisecond)
		if f, err = w.quiet(ctx, g); err != nil {
			return err
		}
		if more := f.exceeds(g.before); more != "" {
			return fmt.Errorf("gateway %d has %s", g.n, more)
		}
		return nil
	})
	if err != nil {
		w.ledger.violates("leaked", "%v; open are %v", err, openFiles(g.running().Cmd.Process.Pid))
	}
	w.log("gateway %d: %d goroutines, %d descriptors, %d KiB; before the storm %d, %d, %d KiB", g.n, f.goroutines, f.descriptors, f.heap>>10,
		g.before.goroutines, g.before.descriptors, g.before.heap>>10)
}

// openFiles counts the descriptors of a process by what they are of.
func openFiles(pid int) map[string]int {
	counts := map[string]int{}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // none, if it has ended
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			kind, _, _ := strings.Cut(target, "[")
			counts[kind]++
		}
	}
	return counts
}
