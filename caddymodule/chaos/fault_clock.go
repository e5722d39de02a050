package chaos

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// canSetClocks returns what is lacking for a process whose clock can be set, or nothing.
func canSetClocks(*world) string {
	process, err := servers.Start(exec.Command("sleep", "60"))
	if err == nil {
		defer process.Kill()
		err = process.SetClock(time.Hour)
	}
	if err != nil {
		return "a clock that can be set: " + err.Error()
	}
	return ""
}

// setClock sets the wall clock of a gateway forward or back, by minutes or hours, and later again.
func setClock(ctx context.Context, w *world, rng *rand.Rand) error {
	g := w.anyGateway(rng)
	over := w.ledger.begin("clock", g.n)
	defer over()
	process := g.running()
	set := func(by time.Duration) error {
		g.fate.Lock()
		defer g.fate.Unlock()
		g.hold.Lock()
		defer g.hold.Unlock()
		if g.running() != process { // it was killed meanwhile
			return nil
		}
		w.log("gateway %d: clock set by %s", g.n, by)
		return process.SetClock(by)
	}
	for range 1 + rng.IntN(2) {
		if err := set(jump(rng, time.Minute, 40*time.Hour)); err != nil {
			return err
		}
		wait(ctx, between(rng, 200*time.Millisecond, 2*time.Second))
	}
	return set(0)
}

// jump returns a time to set a clock forward or back by.
func jump(rng *rand.Rand, least, most time.Duration) time.Duration {
	by := between(rng, least, most).Round(time.Second)
	if rng.IntN(2) == 0 {
		return -by
	}
	return by
}

func canSetRedisClock(w *world) string {
	if lacks := shared(w); lacks != "" {
		return lacks
	}
	return canSetClocks(w)
}

// setRedisClock sets the clock of the master forward or back, by which deliveries are due and leases end: what is due is late by
// as much where it is set back, and where it is set forward, another gateway may take what is leased.
func setRedisClock(ctx context.Context, w *world, rng *rand.Rand) error {
	return w.harmMaster(redisClock, func(master *servers.Redis) error {
		by := jump(rng, 5*time.Second, time.Minute)
		w.log("Redis: clock set by %s", by)
		if err := master.SetClock(by); err != nil {
			return err
		}
		wait(ctx, between(rng, 200*time.Millisecond, 3*time.Second))
		return master.SetClock(0)
	})
}

// redisClock is the fault that lets attempts of one delivery overlap.
const redisClock = "redis-clock"
