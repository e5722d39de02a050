package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"
)

// The account that the gateways have at Redis; the driver uses another.
const (
	redisUser     = "relay"
	redisPassword = "chaos"
)

func shared(w *world) string {
	if w.redis == nil {
		return "a Redis"
	}
	return ""
}

// killRedis kills Redis, and starts it again.
func killRedis(ctx context.Context, w *world, rng *rand.Rand) error {
	w.redisFate.Lock()
	defer w.redisFate.Unlock()
	over := w.ledger.begin("redis-kill", -1)
	defer over()
	w.redis.Kill()
	wait(ctx, between(rng, time.Millisecond, 2*time.Second))
	return w.redis.Start()
}

// stopRedis suspends Redis.
func stopRedis(ctx context.Context, w *world, rng *rand.Rand) error {
	w.redisFate.Lock()
	defer w.redisFate.Unlock()
	over := w.ledger.begin("redis-stop", -1)
	defer over()
	if err := w.redis.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	wait(ctx, between(rng, 100*time.Millisecond, 3*time.Second))
	return w.redis.Signal(syscall.SIGCONT)
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
	w.redisFate.Lock()
	defer w.redisFate.Unlock()
	over := w.ledger.begin(kind, -1)
	defer over()
	for _, command := range harm {
		if _, err := w.redis.Do(command); err != nil {
			return errors.Join(err, w.mendRedis(mend))
		}
	}
	wait(ctx, between(rng, 200*time.Millisecond, 3*time.Second))
	return w.mendRedis(mend)
}

func (w *world) mendRedis(command string) error {
	_, err := w.redis.Do(command)
	return err
}
