package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

func shared(w *world) string {
	if w.redis == nil {
		return "a Redis"
	}
	return ""
}

// harmMaster runs harm on the master, while no other fault touches it.
func (w *world) harmMaster(kind string, harm func(*servers.Redis) error) error {
	w.redis.fate.Lock()
	defer w.redis.fate.Unlock()
	master, err := w.redis.master()
	if err != nil {
		return err
	}
	defer w.ledger.begin(kind, -1)()
	err = harm(master)
	if w.redis.failsOver() {
		wait(context.Background(), failoverTime)
	}
	return err
}

// failoverTime is how long after a fault a Sentinel may still promote the replica.
const failoverTime = 3 * time.Second

// killRedis kills the master, and starts it again. A Sentinel may have promoted its replica meanwhile.
func killRedis(ctx context.Context, w *world, rng *rand.Rand) error {
	return w.harmMaster("redis-kill", func(master *servers.Redis) error {
		master.Kill()
		wait(ctx, between(rng, time.Millisecond, 2*time.Second))
		return master.Start()
	})
}

// stopRedis suspends the master.
func stopRedis(ctx context.Context, w *world, rng *rand.Rand) error {
	return w.harmMaster("redis-stop", func(master *servers.Redis) error {
		if err := master.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		wait(ctx, between(rng, 100*time.Millisecond, 3*time.Second))
		return master.Signal(syscall.SIGCONT)
	})
}

// fillRedis leaves Redis no memory.
func fillRedis(ctx context.Context, w *world, rng *rand.Rand) error {
	return w.changeRedis(ctx, rng, "redis-full", []string{"CONFIG SET maxmemory 1mb"}, "CONFIG SET maxmemory 0")
}

// refuseRedis shuts the gateways out, or leaves them no right to write.
func refuseRedis(ctx context.Context, w *world, rng *rand.Rand) error {
	if rng.IntN(2) == 0 {
		return w.changeRedis(ctx, rng, "redis-refuses", []string{"ACL SETUSER relay off", "CLIENT KILL USER relay"}, "ACL SETUSER relay on")
	}
	return w.changeRedis(ctx, rng, "redis-refuses", []string{"ACL SETUSER relay -@write"}, "ACL SETUSER relay +@all")
}

// changeRedis changes a setting for a while.
func (w *world) changeRedis(ctx context.Context, rng *rand.Rand, kind string, harm []string, mend string) error {
	return w.harmMaster(kind, func(master *servers.Redis) error {
		var failure error
		for _, command := range harm {
			if _, err := master.Do(command); err != nil {
				failure = errors.Join(failure, err)
			}
		}
		wait(ctx, between(rng, 200*time.Millisecond, 3*time.Second))
		_, err := master.Do(mend)
		return errors.Join(failure, err)
	})
}
