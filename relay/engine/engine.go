package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/alert"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
	"github.com/callbackrelay/caddy-relay/relay/engine/expect"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/engine/lane"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/engine/report"
	"github.com/callbackrelay/caddy-relay/relay/engine/spooling"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
	"github.com/callbackrelay/caddy-relay/relay/engine/sweep"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// reopenLongest bounds the pause between two tries to open the store.
const reopenLongest = 30 * time.Second

// Options are the settings of an engine that stay the same for its whole life.
type Options struct {
	// Driver and Location are shown of the store while it is not open.
	Driver, Location string
	// OpenStore opens the store. It is called again, with growing pauses, while it fails with anything but
	// relay.ErrStoreLocked or relay.ErrStoreUnfit. The logger never blocks.
	OpenStore func(context.Context, *slog.Logger) (relay.Store, error)
	// OpenSpool opens the spool, which accepts callbacks that the store cannot accept; nil: there is none. It is called again,
	// with growing pauses, while it fails.
	OpenSpool func(context.Context, *slog.Logger) (relay.Spool, error)
	// StoreTimeout is how long a callback waits for the store before it goes to the spool. Default: relay.DefaultStoreTimeout.
	StoreTimeout time.Duration
	// Metrics to count in; nil counts nowhere.
	Metrics *meter.Metrics
	// Logger is used where no generation of settings has one; nil discards.
	Logger *slog.Logger
	// Version is sent in User-Agent.
	Version string
}

// Engine accepts callbacks and delivers them. Several generations of settings may be pushed; the newest one counts.
// All methods may be called concurrently.
type Engine struct {
	options Options
	logger  *slog.Logger // writes through the reporter
	meter   *meter.Metrics

	report     *report.Reporter
	access     *commit.Access
	committers *commit.Committers
	lanes      *lane.Lanes
	spooling   *spooling.Spooling
	sweeper    *sweep.Sweeper
	door       *intake.Door
	intake     *intake.Intake
	poller     *expect.Poller
	expecting  outlasting // registrations of tasks
	alerts     *alert.Watcher
	hub        stream.Hub
	reading    reading

	starting sync.Mutex // held while Start opens the store; guards started and closed
	started  bool
	closed   bool

	pausing sync.Mutex // what the store holds of a pause and what the lane does are one step

	mu          sync.Mutex
	generations []*Generation
	unopened    error                          // why the store could not be opened at the start, until it is
	settings    atomic.Pointer[relay.Settings] // of the newest generation; never nil

	ctx         context.Context // ends when Close has drained
	cancel      context.CancelFunc
	watching    context.Context // ends when Close begins
	endWatching context.CancelFunc
	loops       sync.WaitGroup // the opener, the sweeper, the listener, the watcher of alerts
}

// New returns an engine. It does nothing before Start; callbacks that come earlier wait for it.
func New(o Options) *Engine {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = meter.New()
	}
	if o.StoreTimeout <= 0 {
		o.StoreTimeout = relay.DefaultStoreTimeout
	}
	e := &Engine{options: o, meter: o.Metrics, report: report.New(o.Metrics.CountDropped), access: commit.NewAccess()}
	e.logger = e.report.Logger(o.Logger)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.watching, e.endWatching = context.WithCancel(e.ctx)
	e.settings.Store(&relay.Settings{Logger: e.logger})

	e.committers = commit.New(commit.Params{Meter: e.meter, Logger: e.log, Stored: e.accepted})
	tracing := new(courier.Tracing)
	e.lanes = lane.New(lane.Params{
		Commit: e.committers, Courier: courier.New("caddy-relay/"+o.Version, tracing),
		Meter: e.meter, Logger: e.log, Settled: e.settled, GaveUp: e.gaveUp, Behind: e.behindArchive,
	})
	e.spooling = spooling.New(spooling.Params{
		Open: e.openSpool(), Access: e.access, Commit: e.committers, Stored: e.drained, Meter: e.meter, Logger: e.log,
	})
	e.sweeper = sweep.New(sweep.Params{
		Settings: e.lastingSettings, Commit: e.committers, Lanes: e.lanes, Meter: e.meter, GaveUp: e.gaveUp,
	})
	e.door = intake.NewDoor(intake.DoorParams{
		Access: e.access, Commit: e.committers, Lanes: e.lanes, Spooling: e.spooling,
		StoreTimeout: o.StoreTimeout, Meter: e.meter, Report: e.report,
	})
	e.reading.waiting = e.door.Waiting
	e.alerts = alert.New(alert.Params{
		Settings: e.settings.Load, Logger: e.log, Observe: e.conditions, Store: e.access.Store, Accept: e.raise,
	})
	e.intake = intake.New(intake.Params{Door: e.door, Meter: e.meter, Report: e.report, Logger: e.log, Counted: e.alerts.Count, Traced: tracing.Callback})
	e.poller = expect.New(expect.Params{
		Accept: e.recover, GaveUp: e.alerts.GaveUp, Version: o.Version, Meter: e.meter, Logger: e.log,
	})
	return e
}

func (e *Engine) openSpool() func(context.Context) (relay.Spool, error) {
	if e.options.OpenSpool == nil {
		return nil
	}
	return func(ctx context.Context) (relay.Spool, error) { return e.options.OpenSpool(ctx, e.logger) }
}

// log returns the logger of the current settings. Its lines go through the reporter, so it never blocks.
func (e *Engine) log() *slog.Logger { return e.settings.Load().Logger }

// Logger returns a logger whose lines go to the given one's sink, without waiting for it. Lines that the sink is too slow for
// are dropped and counted.
func (e *Engine) Logger(to *slog.Logger) *slog.Logger { return e.report.Logger(to) }

// Receive handles one callback: it checks, identifies, accepts and answers, never later than the source's AckWithin.
// client is the caller's address after trusted proxies; it may be invalid where it is unknown.
func (e *Engine) Receive(w http.ResponseWriter, r *http.Request, src *relay.Source, client netip.Addr) intake.Receipt {
	return e.intake.Receive(w, r, src, client)
}

// Start opens the store, unless it is open, and begins to work. relay.ErrStoreLocked means that another process has it,
// relay.ErrStoreUnfit that it does not fit its settings.
// Any other failure to open the store is logged and shown; callbacks get 503 while the engine keeps trying.
func (e *Engine) Start(ctx context.Context) error {
	e.starting.Lock()
	defer e.starting.Unlock()
	if e.closed {
		return relay.ErrClosed
	}
	if e.started {
		return nil
	}
	e.access.Opening()
	store, err := e.openStore(ctx)
	if errors.Is(err, relay.ErrStoreLocked) || errors.Is(err, relay.ErrStoreUnfit) {
		e.access.Failed(err)
		return err
	}
	e.started = true
	e.spooling.Open(ctx)
	e.meter.Show(e)
	defer func() { e.loops.Go(func() { e.alerts.Run(e.watching) }) }() // not before the store has begun to work
	if err == nil {
		e.run(store)
		return nil
	}
	e.failed(err)
	e.mu.Lock()
	e.unopened = err
	if len(e.generations) > 0 { // else the first push says so: a config that is refused for it has no callbacks
		e.warnOfStore()
	}
	e.mu.Unlock()
	e.loops.Go(func() { e.reopen(err) })
	return nil
}

// openStore opens the store. That its file is damaged in a way that nobody thought of must not end the process (12).
func (e *Engine) openStore(ctx context.Context) (store relay.Store, err error) {
	err = guard.Step(func() (err error) {
		store, err = e.options.OpenStore(ctx, e.logger)
		return err
	})
	return store, err
}

// failed notes why the store is not open.
func (e *Engine) failed(err error) {
	e.access.Failed(fmt.Errorf("%w: %w", relay.ErrUnavailable, err))
}

// reopen keeps trying to open the store, since whoever mends its cause should not have to restart the gateway.
func (e *Engine) reopen(before error) {
	for pause := time.Second; ; pause = min(2*pause, reopenLongest) {
		select {
		case <-e.ctx.Done():
			return
		case <-time.After(pause):
		}
		store, err := e.openStore(e.ctx)
		if err == nil {
			e.log().Info("store opened")
			e.run(store)
			return
		}
		if err.Error() != before.Error() {
			e.log().Error("store cannot be opened", "error", err)
		}
		before = err
		e.failed(err)
	}
}

// run begins to work on an open store.
func (e *Engine) run(store relay.Store) {
	if store.PerSource() {
		e.hub.Remember() // else the order of the store is that of the stream
	}
	e.committers.Run(store, e.lanes)
	e.access.Opened(store)
	e.poller.Run(store)
	e.loops.Go(func() { e.sweeper.Run(e.ctx, store) })
	e.loops.Go(func() { e.sweeper.RunFiles(e.ctx, store) })
	settings := e.settings.Load()
	if shared, ok := store.(relay.SharedStore); ok {
		shared.Announce(settings.Hash())
		e.loops.Go(func() { e.listen(shared) })
	}
	e.lanes.Wake("")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unopened = nil
	if len(e.generations) > 0 { // else the first push looks
		warnOfOrphans(settings, store)
	}
}

// listen wakes the lanes that a shared store names, until the engine stops.
func (e *Engine) listen(store relay.SharedStore) {
	for {
		select {
		case <-e.ctx.Done():
			return
		case name := <-store.Wakeups():
			if l := e.lanes.Get(name); l != nil {
				l.Rouse()
			}
		}
	}
}

// gaveUp logs a delivery that has become a dead letter, and passes it on. It never blocks.
func (e *Engine) gaveUp(d relay.DeadLetter) {
	s := e.settings.Load()
	logger := s.Logger.With("source", d.Source, "destination", d.Destination,
		"event_id", d.EventID, "task_id", d.TaskID, "attempts", d.Attempts, "error", d.LastError)
	if d.LastStatus != 0 { // what expires without an attempt has none
		logger = logger.With("status", d.LastStatus)
	}
	logger.Error("delivery given up: it is a dead letter now")
	e.died(d)
	if s.OnDeadLetter != nil {
		e.report.Hook(func() { s.OnDeadLetter(d) })
	}
}

// Store returns the open store, or the reason why there is none.
func (e *Engine) Store() (relay.Store, error) { return e.access.Store() }

// Close ends deliveries within the drain time of the newest settings, then closes the store (10). Callbacks get 503 from
// then on.
func (e *Engine) Close() error {
	e.starting.Lock()
	defer e.starting.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.endWatching()
	e.poller.Stop()
	e.expecting.stop()
	drain := e.settings.Load().Drain
	if drain <= 0 {
		drain = relay.DefaultDrain
	}
	if !e.lanes.Stop(drain) {
		e.log().Warn("attempts still in flight after the drain time are released", "drain", drain)
	}
	e.committers.Stop()
	e.spooling.Stop()
	e.intake.Stop()
	e.cancel()
	e.loops.Wait()
	e.meter.Hide(e)
	err := e.spooling.Close()
	if store := e.access.Close(); store != nil {
		if e := store.Close(); e != nil {
			err = errors.Join(err, fmt.Errorf("closing the store: %w", e))
		}
	}
	e.report.Close()
	return err
}
