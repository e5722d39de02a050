package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// sample is the outcome of one round. All but rate are per event, and of all gateways together.
type sample struct {
	rate        float64 // per second
	cpu         float64 // of the gateways, in µs, by the clocks of their processes
	redisCPU    float64 // µs
	bytes       float64 // written to files by the gateways
	allocations float64
	perCommit   float64 // events that were committed together
}

// look holds the counters at the beginning of a round.
type look struct {
	cpu, redisCPU time.Duration
	bytes         int64
	allocations   float64
	commits       float64
}

// look reads the counters of gateways and Redis.
func (b *bench) look(gateways []*gateway) (l look, err error) {
	for _, g := range gateways {
		m, err := g.metrics()
		if err != nil {
			return l, err
		}
		allocations, err := m.sum("go_memstats_mallocs_total")
		if err != nil {
			return l, err
		}
		commits, err := m.sum("caddy_relay_store_duration_seconds_count", `operation="apply"`)
		if err != nil {
			return l, err
		}
		cpu, err := cpuOf(g.cmd.Process.Pid)
		if err != nil {
			return l, err
		}
		bytes, err := writtenBy(g.cmd.Process.Pid)
		if err != nil {
			return l, err
		}
		l.allocations, l.commits, l.cpu, l.bytes = l.allocations+allocations, l.commits+commits, l.cpu+cpu, l.bytes+bytes
	}
	if b.server != nil {
		l.redisCPU, err = cpuOf(b.server.Cmd.Process.Pid)
	}
	return l, err
}

// since returns the sample of a round that began with a look.
func (b *bench) since(before look, gateways []*gateway, events int, rate float64) (sample, error) {
	after, err := b.look(gateways)
	if err != nil {
		return sample{}, err
	}
	n := float64(max(events, 1))
	s := sample{
		rate: rate, cpu: float64((after.cpu - before.cpu).Microseconds()) / n,
		redisCPU: float64((after.redisCPU - before.redisCPU).Microseconds()) / n,
		bytes:    float64(after.bytes-before.bytes) / n, allocations: (after.allocations - before.allocations) / n,
	}
	if commits := after.commits - before.commits; commits > 0 {
		s.perCommit = n / commits
	}
	return s, nil
}

// cpuOf returns how much processor time a process has used. Linux counts it in hundredths of a second for all to read.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before it may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	var ticks int64
	for _, field := range fields[11:13] { // user and system
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// writtenBy returns how many bytes a process has had written to storage.
func writtenBy(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/io has no write_bytes", pid)
}
