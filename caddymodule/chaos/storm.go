package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// drainWithin is how long it may take, once all is mended, until everything is settled. What a killed gateway held on Redis is
// leased for the timeout of its destination and 30 s, and what it was asking about for 74 s.
const drainWithin = 3 * time.Minute

// warmUp sends callbacks while nothing is harmed, and measures the gateways.
func (w *world) warmUp(ctx context.Context) error {
	w.log("warming up")
	warm, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	w.sender.run(warm, "warm", w.Rate)
	if err := w.drain(ctx); err != nil {
		return err
	}
	for _, g := range w.gateways {
		var err error
		if g.before, err = w.quiet(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// storm harms everything under load, and mends it.
func (w *world) storm(ctx context.Context) error {
	faults, err := w.possible()
	if err != nil {
		return err
	}
	rng := func(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.Seed, stream)) }
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var taking sync.WaitGroup
	taking.Go(func() { w.sender.run(ctx, "storm", w.Rate) })
	if w.tasks != nil {
		taking.Go(func() { w.tasks.run(ctx) })
	}
	o := &operator{w: w, rng: rng(1), paused: map[string]func(){}}
	taking.Go(func() { o.run(ctx) })
	taking.Go(func() { w.moods(ctx, rng(2), w.moodsOf()) })

	if w.Rounds > 0 {
		err = w.killRounds(ctx, rng(3))
	} else {
		taking.Go(func() { w.reload(ctx, rng(4)) })
		harming, over := context.WithTimeout(ctx, w.Duration)
		defer over()
		err = w.harmAll(harming, rng(3), faults)
	}
	// The senders come last: each waits for an answer.
	cancel()
	taking.Wait()
	return errors.Join(err, w.mend(context.WithoutCancel(ctx), o))
}

// possible returns the faults to choose from: none where gateways are only killed, and else one at least.
func (w *world) possible() (faults []harm, err error) {
	if w.Rounds > 0 {
		return nil, nil
	}
	for _, h := range harms {
		if !w.wants(h.name) {
			continue
		}
		if lacks := h.lacks(w); lacks != "" {
			w.log("without %s: there is not %s", h.name, lacks)
			w.without = append(w.without, h.name)
			continue
		}
		faults = append(faults, h)
	}
	if len(faults) == 0 {
		return nil, fmt.Errorf("none of the faults %v can be done here", w.without)
	}
	return faults, nil
}

// moodsOf returns the moods of the consumers. Where throughput matters, none makes the gateway wait.
func (w *world) moodsOf() map[string][]mood {
	if w.Rounds > 0 {
		quick := []mood{fine, fine, fine, failing}
		return map[string][]mood{"flaky": quick, "ordered": quick, "judge": {fine, gone}, "moved": quick, "tasks": quick}
	}
	all := []mood{fine, fine, fine, fine, failing, busy, slow, hanging, reset, halfShut, endless, away, silent, moving}
	return map[string][]mood{"steady": {fine, fine, fine, slow}, "flaky": all, "ordered": all, "judge": {fine, gone, gone, reset}, "moved": all, "tasks": all}
}

// killRounds kills gateways in turn, each at a random instant of its life.
func (w *world) killRounds(ctx context.Context, rng *rand.Rand) error {
	for round := range w.Rounds {
		wait(ctx, between(rng, 100*time.Millisecond, 1200*time.Millisecond))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if round%10 == 9 {
			w.log("round %d", round+1)
		}
		if err := w.killOne(ctx, w.gateways[round%len(w.gateways)], time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// mend leaves everything as it was before the storm.
func (w *world) mend(ctx context.Context, o *operator) error {
	w.log("mending")
	for _, c := range w.consumers {
		if c.name != "bin" {
			if err := c.be(fine); err != nil {
				return err
			}
		}
	}
	for _, over := range o.paused {
		over()
	}
	w.variant = firstVariant
	for _, g := range w.gateways {
		err := until(ctx, patience, "the first configuration is loaded", func() error { return g.load(ctx, w.config(g, w.variant)) })
		if err != nil {
			return err
		}
	}
	for _, d := range pausable {
		err := until(ctx, patience, "nothing is paused", func() error {
			_, err := w.gateways[0].call(ctx, http.MethodPost, api.ResumePath(d.source, d.destination), nil, nil)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// drain waits until nothing is left to deliver: dead letters are redriven or discarded, and what waits for a name that is gone is
// handed over.
func (w *world) drain(ctx context.Context) error {
	o := &operator{w: w}
	return until(ctx, drainWithin, "everything is settled", func() error {
		w.reassign(ctx, w.gateways[0])
		o.redrive(ctx, w.gateways[0])
		o.discard(ctx, w.gateways[0])
		for _, g := range w.gateways {
			if err := g.settled(ctx); err != nil {
				wait(ctx, 200*time.Millisecond)
				return err
			}
		}
		if w.tasks != nil {
			return w.tasks.left(ctx, w.gateways[0])
		}
		return nil
	})
}

// settled returns an error that names what is left to deliver.
func (g *gateway) settled(ctx context.Context) error {
	s, err := g.status(ctx)
	if err != nil {
		return err
	}
	if !s.Store.Up {
		return fmt.Errorf("gateway %d: the store is down: %s", g.n, s.Store.Error)
	}
	if s.Spool != nil && (s.Spool.Events > 0 || s.Spool.Stuck > 0) {
		return fmt.Errorf("gateway %d: the spool holds %d callbacks and %d stuck ones", g.n, s.Spool.Events, s.Spool.Stuck)
	}
	for _, d := range s.Destinations {
		if c := d.Counts; c.Pending+c.InFlight+c.Held+c.Paused+c.Orphaned+c.Dead > 0 {
			return fmt.Errorf("gateway %d: %s/%s (%s): %+v", g.n, d.Source, d.Name, d.State, c)
		}
	}
	return nil
}
