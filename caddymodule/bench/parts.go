package main

import (
	"errors"
	"fmt"
	"time"
)

// sqlite is the store of a gateway that runs alone.
const sqlite = "sqlite"

// rate returns a side that sends as fast as answers come, for as long as a round is.
func (b *bench) rate(g *gateway, path string) side {
	return func() (float64, error) {
		o, err := load(job{Addresses: []string{g.address}, Path: path, Body: b.callback, Connections: b.connections, Duration: b.duration})
		return o.perSecond(), err
	}
}

func (b *bench) accept() error {
	return b.compareAccept(sqlite, "durable accept, against `respond 200`")
}

// compareAccept compares a durable accept (one event, one delivery that waits) with Caddy's cheapest answer.
func (b *bench) compareAccept(store, what string) (err error) {
	g, err := b.start("accept", store, `
	respond /plain 200
	relay /callbacks vocals {
		to waiting http://127.0.0.1:1/
	}`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	if err := g.pause("vocals", "waiting"); err != nil {
		return err
	}
	ref, prod, err := b.compare(what, b.rate(g, "/plain"), b.rate(g, "/callbacks"))
	if err != nil {
		return err
	}
	b.addRates(what, ref, prod, "≥ 0.5")
	return nil
}

// fanout compares deliveries to three destinations with requests through a reverse proxy to the same kind of consumer.
func (b *bench) fanout() (err error) {
	f, err := b.newFan(sqlite, "fanout")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	return f.compareProxied("1 → 3 deliveries, settled, against `reverse_proxy`")
}

func (f *fan) compareProxied(what string) error {
	ref, prod, err := f.compare(what, f.proxied, f.delivered)
	if err != nil {
		return err
	}
	f.addRates(what, ref, prod, "≥ 1.5")
	return nil
}

// latency measures the time from sending to arrival at a low rate, against one fsync.
func (b *bench) latency() (err error) {
	f, err := b.newFan(sqlite, "latency")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	before50, before99, err := b.fsync()
	if err != nil {
		return err
	}
	for _, c := range f.consumers {
		c.startTiming()
	}
	const perSecond = 200
	o, err := f.send(job{Connections: 8, Count: perSecond * b.seconds, PerSecond: perSecond})
	if err != nil {
		return err
	}
	var took []time.Duration
	for _, c := range f.consumers {
		took = append(took, c.stopTiming()...)
	}
	p50, p99 := quantile(took, .5), quantile(took, .99)
	note("latency: answers p50 %s, p99 %s", milliseconds(o.P50), milliseconds(o.P99))
	b.row("sent → arrived at 200/s, p50, against one fsync", milliseconds(before50), milliseconds(p50), fmt.Sprintf("%.1f", float64(p50)/float64(before50)), "≤ 3 ms")
	b.row("sent → arrived at 200/s, p99, against one fsync", milliseconds(before99), milliseconds(p99), fmt.Sprintf("%.1f", float64(p99)/float64(before99)), "≤ 25 ms")
	return nil
}

// backlog compares the fan-out of a gateway with many waiting deliveries with that of one with none.
func (b *bench) backlog() (err error) {
	full, err := b.newFan(sqlite, "full")
	if err != nil {
		return err
	}
	note("backlog: %d callbacks for a dead destination", b.settings.backlog)
	_, err = load(job{
		Addresses: full.addresses(), Path: "/backlog", Body: b.callback, Connections: b.connections, Count: b.settings.backlog,
	})
	if err := errors.Join(err, full.close()); err != nil {
		return err
	}
	var started []time.Duration
	highest := 0
	round := func(folder string) side {
		return func() (rate float64, err error) {
			f, err := b.newFan(sqlite, folder)
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, f.close()) }()
			if rate, err = f.delivered(); err != nil || folder != "full" {
				return rate, err
			}
			started = append(started, f.gateways[0].started)
			_, peak, err := f.gateways[0].memory()
			highest = max(highest, peak)
			return rate, err
		}
	}
	ref, prod, err := b.compare("backlog", round("empty"), round("full"))
	if err != nil {
		return err
	}
	b.addRates(fmt.Sprintf("the same with %d waiting, against none", b.settings.backlog), ref, prod, "≥ 0.9")
	b.row("  its highest resident memory", "", fmt.Sprintf("%d MiB", highest), "", "≤ 256 MiB")
	b.row("  its start", "", milliseconds(quantile(started, .5)), "", "≤ 3 s")
	return nil
}
