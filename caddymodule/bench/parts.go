package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// rate gives a side that sends as fast as answers come, for as long as a round is.
func (b *bench) rate(g *gateway, path string) side {
	return func() (float64, error) {
		o, err := load(job{Address: g.address, Path: path, Body: b.callback, Connections: b.connections, Duration: b.duration})
		return o.perSecond(), err
	}
}

// accept compares a durable accept (one event, one delivery that waits) with Caddy's cheapest answer.
func (b *bench) accept() (err error) {
	g, err := b.start("accept", `
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
	ref, prod, err := b.compare("accept", b.rate(g, "/plain"), b.rate(g, "/callbacks"))
	if err != nil {
		return err
	}
	b.addRates("durable accept, against `respond 200`", ref, prod, "≥ 0.5")
	return nil
}

// destinations of a fan-out.
const destinations = 3

// fan is a gateway with a source of three live destinations, and one of a dead one.
type fan struct {
	*bench
	*gateway
	consumers []*consumer
}

func (b *bench) newFan(folder string) (*fan, error) {
	f := &fan{bench: b}
	var to []string
	for n := range destinations {
		c, err := b.newConsumer()
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.consumers = append(f.consumers, c)
		to = append(to, fmt.Sprintf("\t\tto d%d http://%s/ {\n\t\t\tmax_in_flight %d\n\t\t}", n, c.address(), b.slots))
	}
	var err error
	if f.gateway, err = b.start(folder, `
	reverse_proxy /proxied `+f.consumers[0].address()+`
	relay /callbacks vocals {
`+strings.Join(to, "\n")+`
	}
	relay /backlog backlog {
		to dead http://127.0.0.1:1/
	}`); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *fan) close() error {
	for _, c := range f.consumers {
		c.close()
	}
	if f.gateway == nil {
		return nil
	}
	return f.stop()
}

// fixed gives a side that sends a number of callbacks.
func (f *fan) fixed(path string) side {
	return func() (float64, error) {
		o, err := load(job{Address: f.address, Path: path, Body: f.callback, Connections: f.connections, Count: f.callbacks})
		return o.perSecond(), err
	}
}

// delivered sends a number of callbacks and waits until every delivery is settled: the rate is that of deliveries.
func (f *fan) delivered() (float64, error) {
	start := time.Now()
	o, err := load(job{Address: f.address, Path: "/callbacks", Body: f.callback, Connections: f.connections, Count: f.callbacks})
	if err != nil {
		return 0, err
	}
	if err := f.poll(5*time.Minute, func() (bool, error) { return f.settled("vocals") }); err != nil {
		return 0, err
	}
	rate := float64(destinations*f.callbacks) / time.Since(start).Seconds()
	note("  accepted %.0f/s, delivered %.0f/s", o.perSecond(), rate)
	return rate, nil
}

// fanout compares deliveries to three destinations with requests through a reverse proxy to the same kind of consumer.
func (b *bench) fanout() (err error) {
	f, err := b.newFan("fanout")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	ref, prod, err := b.compare("fan-out", f.fixed("/proxied"), f.delivered)
	if err != nil {
		return err
	}
	b.addRates("1 → 3 deliveries, settled, against `reverse_proxy`", ref, prod, "≥ 1.5")
	return nil
}

// latency measures the time from sending to arrival at a low rate, against one fsync.
func (b *bench) latency() (err error) {
	f, err := b.newFan("latency")
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
	o, err := load(job{
		Address: f.address, Path: "/callbacks", Body: b.callback, Connections: 8,
		Count: perSecond * b.seconds, PerSecond: perSecond,
	})
	if err != nil {
		return err
	}
	if err := f.poll(time.Minute, func() (bool, error) { return f.settled("vocals") }); err != nil {
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
	full, err := b.newFan("full")
	if err != nil {
		return err
	}
	note("backlog: %d callbacks for a dead destination", b.settings.backlog)
	_, err = load(job{Address: full.address, Path: "/backlog", Body: b.callback, Connections: b.connections, Count: b.settings.backlog})
	if err := errors.Join(err, full.close()); err != nil {
		return err
	}
	var started []time.Duration
	highest := 0
	round := func(folder string) side {
		return func() (rate float64, err error) {
			f, err := b.newFan(folder)
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, f.close()) }()
			if rate, err = f.delivered(); err != nil || folder != "full" {
				return rate, err
			}
			started = append(started, f.started)
			_, peak, err := f.memory()
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
