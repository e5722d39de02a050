package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// sqlite is the store of a gateway that runs alone.
const sqlite = "sqlite"

// embedded is that store in every folder.
func embedded(string) string { return sqlite }

// What an accept and a fan-out on SQLite are to reach.
const acceptTarget, fanTarget = "≥ 0.55, CPU ≤ 1.9", "≥ 2.2, CPU ≤ 1.2"

// rate returns a side that sends as fast as answers come, for as long as a round is.
func (b *bench) rate(g *gateway, path, body string, connections int) side {
	gateways := []*gateway{g}
	return func() (sample, error) {
		before, err := b.look(gateways)
		if err != nil {
			return sample{}, err
		}
		o, err := load(job{Addresses: []string{g.address}, Path: path, Body: body, Connections: connections, Duration: b.duration})
		if err != nil {
			return sample{}, err
		}
		return b.since(before, gateways, o.Requests, o.perSecond())
	}
}

func (b *bench) accept() error {
	return b.compareAccept(embedded, "durable accept, against `respond 200`", acceptTarget, b.callback, b.connections)
}

// shapes measures accepts of larger bodies and of more connections, and fan-outs to fewer and more destinations.
func (b *bench) shapes() error {
	for _, size := range []struct {
		kib    int
		target string
	}{{8, ""}, {64, "CPU ≤ 4 times the first row's"}} {
		what := fmt.Sprintf("the same, bodies of %d KiB", size.kib)
		if err := b.compareAccept(embedded, what, size.target, padded(b.callback, size.kib<<10), b.connections); err != nil {
			return err
		}
	}
	if err := b.compareAccept(embedded, "the same, 256 connections", acceptTarget, b.callback, 256); err != nil {
		return err
	}
	if err := b.compareFan(1, embedded, "1 → 1 deliveries, settled", ""); err != nil {
		return err
	}
	for _, c := range b.binaries() {
		if err := b.further(c); err != nil {
			return err
		}
	}
	return nil
}

// padded returns a callback of about size bytes: it has that many sung words besides, each with its times, as callbacks of
// lyrics have. They repeat their names, and nothing else.
func padded(callback string, size int) string {
	var words strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for at := 0.0; words.Len() < size-len(callback); {
		word := make([]byte, 2+random.IntN(8))
		for i := range word {
			word[i] = byte('a' + random.IntN(26))
		}
		end := at + random.Float64()
		fmt.Fprintf(&words, `{"word":"%s","success":true,"startS":%.5f,"endS":%.5f,"palign":0},`, word, at, end)
		at = end
	}
	return strings.Replace(callback, `{`, `{"alignedWords":[`+strings.TrimSuffix(words.String(), ",")+`],`, 1)
}

// compareAccept compares a durable accept (one event, one delivery that waits) with Caddy's cheapest answer. store returns
// the store of the gateway in a folder.
func (b *bench) compareAccept(store func(folder string) string, what, target, body string, connections int) (err error) {
	var reference side
	var contenders []contender
	for _, c := range b.binaries() {
		b.folders++
		folder := fmt.Sprintf("accept-%d", b.folders)
		g, failed := b.start(c.path, folder, store(folder), `
	respond /plain 200
	relay /callbacks vocals {
		to waiting http://127.0.0.1:1/
	}`)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, g.stop()) }()
		if err := g.pause("vocals", "waiting"); err != nil {
			return err
		}
		reference = b.rate(g, "/plain", body, connections)
		contenders = append(contenders, contender{c.name, b.rate(g, "/callbacks", body, connections)})
	}
	return b.compare(what, target, reference, contenders...)
}

// fanout compares deliveries to three destinations with requests through a reverse proxy to the same kind of consumer.
func (b *bench) fanout() error {
	return b.compareFan(fanned, embedded, "1 → 3 deliveries, settled, against `reverse_proxy`", fanTarget)
}

func (b *bench) compareFan(destinations int, store func(folder string) string, what, target string) (err error) {
	var reference side
	var contenders []contender
	for _, c := range b.binaries() {
		b.folders++
		folder := fmt.Sprintf("fan-%d", b.folders)
		f, failed := b.newFan(c.path, destinations, store(folder), folder)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, f.close()) }()
		reference = f.proxied
		contenders = append(contenders, contender{c.name, f.delivered})
	}
	return b.compare(what, target, reference, contenders...)
}

// latency measures the time from sending to arrival at a low rate, against one fsync at that rate.
func (b *bench) latency() (err error) {
	f, err := b.newFan(b.binary, fanned, sqlite, "latency")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	const perSecond = 200
	before50, before99, err := b.fsync(perSecond)
	if err != nil {
		return err
	}
	for _, c := range f.consumers {
		c.startTiming()
	}
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
	b.row("sent → arrived at 200/s, p50, against one fsync", milliseconds(before50), milliseconds(p50), fmt.Sprintf("%.1f", float64(p50)/float64(before50)), "≤ 1.5 ms")
	b.row("sent → arrived at 200/s, p99, against one fsync", milliseconds(before99), milliseconds(p99), fmt.Sprintf("%.1f", float64(p99)/float64(before99)), "≤ 5 ms")
	return nil
}

// backlog compares the fan-out of a gateway with many waiting deliveries with that of one with none.
func (b *bench) backlog() (err error) {
	full, err := b.newFan(b.binary, fanned, sqlite, "full")
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
		return func() (s sample, err error) {
			f, err := b.newFan(b.binary, fanned, sqlite, folder)
			if err != nil {
				return s, err
			}
			defer func() { err = errors.Join(err, f.close()) }()
			if s, err = f.delivered(); err != nil || folder != "full" {
				return s, err
			}
			started = append(started, f.gateways[0].started)
			_, peak, err := f.gateways[0].memory()
			highest = max(highest, peak)
			return s, err
		}
	}
	what := fmt.Sprintf("the same with %d waiting, against none", b.settings.backlog)
	if err := b.compare(what, "≥ 0.95", round("empty"), contender{"", round("full")}); err != nil {
		return err
	}
	b.row("  its highest resident memory", "", fmt.Sprintf("%d MiB", highest), "", "≤ 256 MiB")
	b.row("  its start", "", milliseconds(quantile(started, .5)), "", "≤ 1 s")
	return nil
}
