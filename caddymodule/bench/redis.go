package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
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
	if err := b.compareAccept(store, "durable accept, Redis "+sync+", against `respond 200`", b.callback, b.connections); err != nil {
		return err
	}
	if err := b.compareFan(fanned, store, "1 → 3 deliveries, Redis "+sync+", against `reverse_proxy`", "≥ 2.2"); err != nil {
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

// startRedis starts a redis-server on a port of its own.
func (b *bench) startRedis(sync string) (address string, stop func() error, err error) {
	address, _, err = freeAddresses()
	if err != nil {
		return "", nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", nil, err
	}
	b.folders++
	dir := filepath.Join(b.dir, fmt.Sprintf("redis-%d", b.folders))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	// A new file is rewritten whenever it has doubled, which is all the time in the first minute and seldom later.
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", sync, "--auto-aof-rewrite-percentage", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("redis-server (from Debian's package of that name): %w", err)
	}
	stop = func() error {
		b.redisPID = 0
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails only where it has ended
		return cmd.Wait()
	}
	b.redisPID = cmd.Process.Pid
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return address, stop, conn.Close()
		}
		if time.Now().After(deadline) {
			return "", nil, errors.Join(err, stop())
		}
		<-time.After(10 * time.Millisecond)
	}
}
