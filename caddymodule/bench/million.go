package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// million measures what a store with many events costs those who look at it, and those who call meanwhile.
func (b *bench) million() error {
	kinds := []string{sqlite, "redis"}
	if b.store != "" {
		kinds = []string{b.store}
	}
	short := *b
	short.rounds, short.duration = min(b.rounds, 3), min(b.duration, 3*time.Second)
	for _, kind := range kinds {
		if err := errors.Join(short.onMany(kind, (*many).look), short.onMany(kind, (*many).backlog)); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// many is a store with many events, and the gateway on it while there is one.
type many struct {
	*bench
	*gateway
	kind     string
	at       string // its file, or the address of Redis
	consumer *consumer
}

// onMany runs a measurement on a new store.
func (b *bench) onMany(kind string, measure func(*many) error) (err error) {
	m := &many{bench: b, kind: kind}
	if kind == sqlite {
		b.folders++
		dir := filepath.Join(b.dir, fmt.Sprintf("many-%d", b.folders))
		m.at = filepath.Join(dir, "relay.db")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else {
		address, stop, err := b.startRedis("everysec")
		if err != nil {
			return err
		}
		m.at = address
		defer func() { err = errors.Join(err, stop()) }()
	}
	if m.consumer, err = b.newConsumer(); err != nil {
		return err
	}
	defer m.consumer.close()
	return measure(m)
}

// fill writes events into the store: so many dead letters among them, and so many that wait.
func (m *many) fill(dead, waiting, tasks int) error {
	fill, err := servers.Build(m.dir, servers.Fill)
	if err != nil {
		return err
	}
	begun := time.Now()
	cmd := exec.Command(fill, "-store", m.kind, "-at", m.at, "-mark", taskMark, "-events", strconv.Itoa(m.events),
		"-dead", strconv.Itoa(dead), "-waiting", strconv.Itoa(waiting), "-tasks", strconv.Itoa(tasks))
	cmd.Stdin, cmd.Stderr = strings.NewReader(m.callback), os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("filling the store: %w", err)
	}
	note("%s: %d events written in %.0f s", m.kind, m.events, time.Since(begun).Seconds())
	return nil
}

// open starts a gateway on the store.
func (m *many) open() (err error) {
	m.folders++
	m.gateway, err = m.start(m.binary, fmt.Sprintf("gateway-%d", m.folders), m.kind+" "+m.at, fmt.Sprintf(`
	relay /music music {
		to shop http://%[1]s/
	}
	relay /failed failed {
		to gone http://%[1]s/ {
			max_in_flight %[2]d
		}
	}
	relay /backlog backlog {
		to later http://127.0.0.1:1/
	}
	relay /rare rare {
		to shop http://%[1]s/
	}
	handle_path /dash/* {
		relay_dashboard
	}`, m.consumer.address(), m.slots))
	return err
}

// look measures a store with events of all kinds.
func (m *many) look() (err error) {
	dead := m.events / 10
	if err := m.fill(dead, m.events/5, 200); err != nil {
		return err
	}
	if err := m.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	m.tell("start", milliseconds(m.started), "≤ 1 s")
	if err := errors.Join(m.lists(), m.dashboard()); err != nil {
		return err
	}
	if err := m.tellMemory("resident memory after the lists"); err != nil {
		return err
	}
	return errors.Join(m.readers(), m.redrive(dead))
}

// backlog measures the start of a gateway whose deliveries all wait for a destination that is not there, and its memory.
func (m *many) backlog() (err error) {
	if err := m.fill(0, m.events, 0); err != nil {
		return err
	}
	if err := m.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	m.tell("start with all of them waiting", milliseconds(m.started), "≤ 1 s")
	if err := m.post("/relay/destinations/backlog/later/resume", "", nil); err != nil {
		return err
	}
	if _, err := m.rate(m.gateway, "/music", m.callback, m.connections)(); err != nil {
		return err
	}
	return m.tellMemory("resident memory then")
}

// tellMemory adds a row about the gateway's resident memory.
func (m *many) tellMemory(what string) error {
	now, highest, err := m.memory()
	if err == nil {
		m.tell(what, fmt.Sprintf("%d MiB, %d at its highest", now, highest), "≤ 256 MiB")
	}
	return err
}

// tell adds a row about this store.
func (m *many) tell(what, product, target string) {
	m.row(fmt.Sprintf("%s, %d events: %s", m.kind, m.events, what), "", product, "", target)
}
