package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// harm is a kind of fault.
type harm struct {
	name string
	// do harms, and mends before it returns; ctx ends only what is waited for meanwhile. An error means that it
	// could not be mended.
	do func(ctx context.Context, w *world, rng *rand.Rand) error
	// lacks returns what the machine or the store lacks for it, or nothing.
	lacks func(*world) string
}

// harms are all kinds of faults.
var harms = []harm{
	{"kill", killGateway, nothing},
	{"stop", stopGateway, nothing},
	{"log", stallLog, nothing},
	{"descriptors", exhaustDescriptors, nothing},
	{"syncs", harmSyncs, canTrace},
	{"clock", setClock, canSetClocks},
	{"files", harmFiles, embedded},
	{"disk", fillDisk, ownDisk},
	{"redis-kill", killRedis, shared},
	{"redis-stop", stopRedis, shared},
	{redisClock, setRedisClock, canSetRedisClock},
	{"redis-full", fillRedis, shared},
	{"redis-refuses", refuseRedis, shared},
}

// unknown returns the names that no fault has.
func unknown(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(harms, func(h harm) bool { return h.name == name })
	})
}

func nothing(*world) string { return "" }

// between returns a time between two.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}

// harmAll runs faults, one or several at a time, until ctx ends.
func (w *world) harmAll(ctx context.Context, rng *rand.Rand, faults []harm) error {
	pause := func() { wait(ctx, between(rng, 100*time.Millisecond, time.Second)) }
	for pause(); ctx.Err() == nil; pause() {
		count := min([]int{1, 1, 1, 2, 2, 3}[rng.IntN(6)], len(faults))
		failures := make([]error, count)
		var doing sync.WaitGroup
		for n, chosen := range rng.Perm(len(faults))[:count] {
			fault := faults[chosen]
			own := rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
			doing.Go(func() {
				w.log("%s", fault.name)
				if err := fault.do(ctx, w, own); err != nil {
					failures[n] = fmt.Errorf("%s: %w", fault.name, err)
				}
			})
		}
		doing.Wait()
		if err := errors.Join(failures...); err != nil {
			return err
		}
	}
	return nil
}

// killGateway kills a gateway, and starts it again.
func killGateway(ctx context.Context, w *world, rng *rand.Rand) error {
	return w.killOne(ctx, w.anyGateway(rng), between(rng, time.Millisecond, 400*time.Millisecond))
}

func (w *world) killOne(ctx context.Context, g *gateway, pause time.Duration) error {
	g.fate.Lock()
	defer g.fate.Unlock()
	over := w.ledger.begin("kill", g.n)
	defer over()
	g.kill()
	wait(ctx, pause)
	return g.start()
}

// stopGateway suspends a gateway.
func stopGateway(ctx context.Context, w *world, rng *rand.Rand) error {
	g := w.anyGateway(rng)
	g.hold.Lock()
	defer g.hold.Unlock()
	over := w.ledger.begin("stop", g.n)
	defer over()
	process := g.running().Cmd.Process
	_ = process.Signal(syscall.SIGSTOP) // fails only where it was killed meanwhile
	wait(ctx, between(rng, 100*time.Millisecond, 3*time.Second))
	_ = process.Signal(syscall.SIGCONT)
	return nil
}

// stallLog leaves the log of a gateway unread.
func stallLog(ctx context.Context, w *world, rng *rand.Rand) error {
	g := w.anyGateway(rng)
	flow := g.running().Stall()
	defer flow()
	wait(ctx, between(rng, time.Second, 4*time.Second))
	return nil
}
