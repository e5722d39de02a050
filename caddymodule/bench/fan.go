package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// fanned is the usual number of destinations of a fan-out.
const fanned = 3

// fan is one or more gateways with a source of three live destinations, and one of a dead one.
type fan struct {
	*bench
	gateways  []*gateway
	consumers []*consumer
}

// newFan starts a gateway of a binary for each folder, all of them on the same store.
func (b *bench) newFan(binary string, destinations int, store string, folders ...string) (_ *fan, err error) {
	f := &fan{bench: b}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	var to []string
	for n := range destinations {
		c, err := b.newConsumer()
		if err != nil {
			return nil, err
		}
		f.consumers = append(f.consumers, c)
		to = append(to, fmt.Sprintf("\t\tto d%d http://%s/ {\n\t\t\tmax_in_flight %d%s\n\t\t}", n, c.address(), b.slots, b.perTo))
	}
	for _, folder := range folders {
		g, err := b.start(binary, folder, store, `
	reverse_proxy /proxied `+f.consumers[0].address()+`
	relay /callbacks vocals {
`+b.perSource+strings.Join(to, "\n")+`
	}
	relay /backlog backlog {
		to dead http://127.0.0.1:1/
	}`)
		if err != nil {
			return nil, err
		}
		f.gateways = append(f.gateways, g)
	}
	return f, nil
}

func (f *fan) close() (err error) {
	for _, c := range f.consumers {
		c.close()
	}
	for _, g := range f.gateways {
		err = errors.Join(err, g.stop())
	}
	return err
}

func (f *fan) addresses() (all []string) {
	for _, g := range f.gateways {
		all = append(all, g.address)
	}
	return all
}

// proxied sends callbacks through a reverse proxy to a consumer.
func (f *fan) proxied() (sample, error) {
	before, err := f.look(f.gateways)
	if err != nil {
		return sample{}, err
	}
	o, err := load(job{Addresses: f.addresses(), Path: "/proxied", Body: f.callback, Connections: f.connections, Count: f.callbacks})
	if err != nil {
		return sample{}, err
	}
	return f.since(before, f.gateways, o.Requests, o.perSecond())
}

// delivered sends callbacks and waits until every delivery is settled: the rate is that of deliveries.
func (f *fan) delivered() (sample, error) {
	before, err := f.look(f.gateways)
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	o, err := f.send(job{Connections: f.connections, Count: f.callbacks})
	if err != nil {
		return sample{}, err
	}
	rate := float64(len(f.consumers)*f.callbacks) / time.Since(start).Seconds()
	note("  accepted %.0f/s, delivered %.0f/s", o.perSecond(), rate)
	return f.since(before, f.gateways, f.callbacks, rate)
}

// send sends a number of callbacks to the live destinations, and waits until every delivery is settled.
func (f *fan) send(j job) (outcome, error) {
	j.Addresses, j.Path, j.Body = f.addresses(), "/callbacks", f.callback
	arrived := f.arrived()
	settled, err := f.settled()
	if err != nil {
		return outcome{}, err
	}
	o, err := load(j)
	if err != nil {
		return o, err
	}
	// To ask the gateways costs them something, so that it is done only when all has arrived.
	const within = 5 * time.Minute
	due := len(f.consumers) * j.Count
	err = f.gateways[0].poll(within, func() (bool, error) { return f.arrived() >= arrived+due, nil })
	if err != nil {
		return o, err
	}
	return o, f.gateways[0].poll(within, func() (bool, error) {
		n, err := f.settled()
		return n >= settled+due, err
	})
}

// arrived counts what the consumers got.
func (f *fan) arrived() (n int) {
	for _, c := range f.consumers {
		n += int(c.count.Load())
	}
	return n
}

// settled counts the deliveries that the gateways have made.
func (f *fan) settled() (total int, err error) {
	for _, g := range f.gateways {
		n, err := g.settled("vocals")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
