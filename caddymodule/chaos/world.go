package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/internal/dnstest"
)

// Options are the settings of a run.
type Options struct {
	Binary string // of the gateway
	Dir    string // where its data are made; removed in the end
	Store  string // one of Stores
	Seed   uint64
	// Rate is how many callbacks are sent in a second.
	Rate int
	// Duration is how long faults go on, where there are no Rounds.
	Duration time.Duration
	// Rounds is how often a gateway is killed at a random instant under load, in place of all other faults.
	Rounds int
	// Faults are the names of the faults to choose from. Default: all that the machine and the store allow.
	Faults []string
	// Tasks has tasks of a provider submitted, recovered and archived too. What a killed gateway was asking about, others ask
	// about after 74 seconds.
	Tasks bool
	// Log is called with what happens. It may be nil.
	Log func(line string)
}

// Stores are those that a run can harm: an embedded one, a Redis, and one that a Sentinel fails over to its replica.
var Stores = []string{"sqlite", "redis", "sentinel"}

// Check returns an error that names the store or the faults which there are not.
func (o *Options) Check() error {
	if !slices.Contains(Stores, o.Store) {
		return fmt.Errorf("there is no store %q: choose one of %v", o.Store, Stores)
	}
	if names := unknown(o.Faults); len(names) > 0 {
		var all []string
		for _, h := range harms {
			all = append(all, h.name)
		}
		return fmt.Errorf("there are no faults %q: choose some of %v", names, all)
	}
	return nil
}

// world is everything that takes part in a run.
type world struct {
	Options

	ledger    *ledger
	gateways  []*gateway
	consumers map[string]*consumer
	names     *dnstest.Server // of the consumers
	sender    *sender
	tasks     *tasks   // nil where none are submitted
	redis     *redis   // nil with an embedded store
	disk      string   // a disk of the first gateway's own; empty where there is none
	variant   variant  // of the configuration
	without   []string // faults that cannot be done here
}

// newWorld starts everything. The caller ends it, also after an error.
func newWorld(o Options) (*world, error) {
	w := &world{Options: o, ledger: newLedger(), consumers: map[string]*consumer{}, variant: firstVariant}
	if err := w.place(); err != nil {
		return w, err
	}
	var err error
	if w.names, err = dnstest.Start(); err != nil {
		return w, err
	}
	for _, names := range consumersOf {
		for _, name := range names {
			c, err := newConsumer(name, w.names, w.ledger)
			if err != nil {
				return w, err
			}
			w.consumers[name] = c
		}
	}
	if w.Tasks {
		if w.tasks, err = newTasks(w.gateways, w.Dir, w.Seed); err != nil {
			return w, err
		}
	}
	if err := w.consumers["bin"].be(gone); err != nil {
		return w, err
	}
	for _, g := range w.gateways {
		if err := errors.Join(g.configure(w.config(g, w.variant)), g.start()); err != nil {
			return w, err
		}
	}
	w.sender = newSender(w.gateways, w.ledger)
	return w, nil
}

// place creates the folders and the gateways, and starts the store if they share one.
func (w *world) place() error {
	gateways := 1
	if w.Store != "sqlite" {
		gateways = 2
		var err error
		if w.redis, err = newRedis(w.Dir, w.appendFsync(), w.Store == "sentinel"); err != nil {
			return err
		}
	}
	for n := range gateways {
		home := filepath.Join(w.Dir, fmt.Sprint("gateway-", n))
		g, err := newGateway(n, w.Binary, home, w.ledger)
		if err != nil {
			return err
		}
		w.gateways = append(w.gateways, g)
		if n == 0 && w.wants("disk") && mount(home) == nil {
			w.disk = home
		}
	}
	return nil
}

// appendFsync returns how Redis writes its file: a Redis that is killed must lose nothing that it has answered.
func (w *world) appendFsync() string {
	if w.Rounds > 0 {
		return "everysec"
	}
	return "always"
}

// wants reports whether a fault may be chosen.
func (w *world) wants(fault string) bool {
	return w.Rounds == 0 && (len(w.Faults) == 0 || slices.Contains(w.Faults, fault))
}

func (w *world) log(format string, args ...any) {
	if w.Log != nil {
		w.Log(fmt.Sprintf("%6.1fs %s", time.Since(w.ledger.begun).Seconds(), fmt.Sprintf(format, args...)))
	}
}

func (w *world) anyGateway(rng *rand.Rand) *gateway { return w.gateways[rng.IntN(len(w.gateways))] }

// end ends everything that was started.
func (w *world) end() error {
	var failures []error
	for _, g := range w.gateways {
		failures = append(failures, g.stop())
	}
	if w.sender != nil {
		w.sender.close()
	}
	if w.tasks != nil {
		w.tasks.close()
	}
	for _, c := range w.consumers {
		c.close()
	}
	if w.names != nil {
		failures = append(failures, w.names.Close())
	}
	if w.redis != nil {
		w.redis.close()
	}
	if w.disk != "" {
		failures = append(failures, unmount(w.disk))
	}
	return errors.Join(append(failures, os.RemoveAll(w.Dir))...)
}

// Run harms gateways as the options say, and returns what it found. An error means that the run could not be completed.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if err := o.Check(); err != nil {
		return report, err
	}
	w, err := newWorld(o)
	defer func() { err = errors.Join(err, w.end()) }()
	if err != nil {
		return report, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var pulsing sync.WaitGroup
	pulsing.Go(func() { w.ledger.pulse(ctx) })
	if w.redis.failsOver() {
		pulsing.Go(func() { w.redis.noteFailovers(ctx, w.ledger) })
	}
	defer pulsing.Wait()
	defer cancel()
	if err := w.warmUp(ctx); err != nil {
		return report, err
	}
	if err := w.storm(ctx); err != nil {
		return report, err
	}
	w.judge(ctx)
	for _, g := range w.gateways { // before the report: what they log at their end counts
		err = errors.Join(err, g.stop())
	}
	return w.report(), err
}
