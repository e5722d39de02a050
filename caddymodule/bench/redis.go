package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// redis measures the same on a Redis of its own, with either sync of its append-only file: accepts, and the
// fan-out of one gateway and of two that share it.
func (b *bench) redis() error {
	for _, sync := range []string{"everysec", "always"} {
		if err := b.onRedis(sync); err != nil {
			return fmt.Errorf("%s: %w", sync, err)
		}
	}
	return nil
}

func (b *bench) onRedis(sync string) (err error) {
	address, stop, err := b.startRedis(sync)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	store := func(prefix string) string {
		return fmt.Sprintf("redis %s {\n\t\t\tkey_prefix %s\n\t\t}", address, prefix)
	}
	accepts, fans := "≥ 0.45, CPU ≤ 2.1", "≥ 2.2"
	if sync == "always" { // each batch waits for the disk
		accepts, fans = "", ""
	}
	if err := b.compareAccept(store, "durable accept, Redis "+sync+", against `respond 200`", accepts, b.callback, b.connections); err != nil {
		return err
	}
	if err := b.compareFan(fanned, store, "1 → 3 deliveries, Redis "+sync+", against `reverse_proxy`", fans); err != nil {
		return err
	}

	// Both fans are up in each round, so that what an idle gateway costs falls on both sides.
	alone, err := b.newFan(b.binary, fanned, store("alone"), "redis-alone-"+sync)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone.close()) }()
	both, err := b.newFan(b.binary, fanned, store("both"), "redis-first-"+sync, "redis-second-"+sync)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, both.close()) }()
	return b.compare("the same, two gateways on one Redis "+sync+", against one", "≥ 1.1", alone.delivered, contender{"", both.delivered})
}

// startRedis starts a Redis of the run's own.
func (b *bench) startRedis(sync string) (address string, stop func() error, err error) {
	b.folders++
	dir := filepath.Join(b.dir, fmt.Sprintf("redis-%d", b.folders))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	// A new file is rewritten whenever it has doubled, which is all the time in the first minute and seldom later.
	redis, err := servers.NewRedis(dir, "--appendfsync", sync, "--auto-aof-rewrite-percentage", "0")
	if err != nil {
		return "", nil, err
	}
	if err := redis.Start(); err != nil {
		return "", nil, err
	}
	b.server = redis
	return redis.Address, func() error {
		b.server = nil
		return redis.Stop(time.Minute)
	}, nil
}
