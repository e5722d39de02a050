package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what an engine is made of, for its whole life.
type Options struct {
	// OpenStore opens the store. It is called again, with growing pauses, while it fails with anything but ErrStoreLocked.
	OpenStore func(context.Context) (Store, error)
	// OpenSpool opens the spool, which takes callbacks that the store cannot take; nil: there is none. It is called again,
	// with growing pauses, while it fails.
	OpenSpool func(context.Context) (Spool, error)
	// PerSource says that the store writes each source by itself, so that a source which hangs should hold up no other. A
	// store with one writer for all is better served with all that waits at once.
	PerSource bool
	// StoreTimeout is how long a callback waits for the store before the spool takes it. Default: DefaultStoreTimeout.
	StoreTimeout time.Duration
	// Metrics to count in; nil counts nowhere.
	Metrics *Metrics
	// Logger is used where no generation of settings has one; nil discards.
	Logger *slog.Logger
	// Version is told to destinations in User-Agent.
	Version string
}

// Engine accepts callbacks and delivers them. Several generations of settings may be pushed; the newest one counts.
// All methods may be called concurrently.
type Engine struct {
	options    Options
	userAgent  string
	metrics    *Metrics
	committers *committers

	starting sync.Mutex // held while Start opens the store; guards started
	started  bool

	pausing sync.Mutex // what the store says of a pause and what the lane does are one step

	mu          sync.Mutex
	opening     error // why the store is not open
	generations []*Generation
	lanes       map[DestinationName]*lane
	settings    atomic.Pointer[Settings] // of the newest generation; never nil
	store       atomic.Pointer[Store]
	spooler     atomic.Pointer[spooler]
	spooling    error // why the spool is not open

	healthy   atomic.Bool // the store was well when it was last looked at
	receiving receiving
	filtering chan struct{} // holds one for each event that filters look at

	ctx      context.Context // of the whole engine; attempts in flight are released when it ends
	cancel   context.CancelFunc
	closing  atomic.Bool
	stop     chan struct{}  // closed when Close begins
	resweep  chan struct{}  // capacity 1: other settings count now
	loops    sync.WaitGroup // committer, sweeper, opener
	attempts sync.WaitGroup
}

// New makes an engine. It does nothing before Start, except that callbacks get 503.
func New(o Options) *Engine {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	if o.StoreTimeout <= 0 {
		o.StoreTimeout = DefaultStoreTimeout
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	e := &Engine{
		options:   o,
		userAgent: "caddy-relay/" + o.Version,
		metrics:   o.Metrics,
		lanes:     map[DestinationName]*lane{},
		opening:   errors.New("the store has not been opened yet"),
		stop:      make(chan struct{}),
		resweep:   make(chan struct{}, 1),

		filtering: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.committers = newCommitters(e)
	e.settings.Store(&Settings{Logger: o.Logger})
	return e
}

// Start opens the store, unless it is open, and begins to work. ErrStoreLocked says that another process has it.
// Any other failure to open the store is logged and shown; callbacks get 503 while the engine keeps trying.
func (e *Engine) Start(ctx context.Context) error {
	e.starting.Lock()
	defer e.starting.Unlock()
	if e.closing.Load() {
		return ErrClosed
	}
	if e.started {
		return nil
	}
	// To open may take long, and callbacks and scrapes must not wait for it.
	store, err := e.options.OpenStore(ctx)
	if !errors.Is(err, ErrStoreLocked) {
		e.openSpool(ctx)
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.opening = err
	}
	if errors.Is(err, ErrStoreLocked) {
		return err
	}
	e.started = true
	e.metrics.add(e)
	if err == nil {
		e.run(store)
		return nil
	}
	e.logger().Error("store cannot be opened; callbacks get 503 until it can", "error", err)
	e.loops.Go(e.reopen)
	return nil
}

// reopen keeps trying to open the store, since whoever mends its cause should not have to restart the gateway.
func (e *Engine) reopen() {
	const longest = 30 * time.Second
	for pause := time.Second; ; pause = min(2*pause, longest) {
		select {
		case <-e.stop:
			return
		case <-time.After(pause):
		}
		store, err := e.options.OpenStore(e.ctx)
		e.mu.Lock()
		if err == nil && e.closing.Load() {
			e.mu.Unlock()
			_ = store.Close()
			return
		}
		if err == nil {
			e.logger().Info("store opened")
			e.run(store)
			e.mu.Unlock()
			return
		}
		if err.Error() != e.opening.Error() {
			e.logger().Error("store cannot be opened", "error", err)
		}
		e.opening = err
		e.mu.Unlock()
	}
}

// run starts the loops on an open store. The caller holds e.mu.
func (e *Engine) run(store Store) {
	e.store.Store(&store)
	e.healthy.Store(true)
	e.opening = nil
	e.committers.run(store)
	e.loops.Go(func() { e.sweep(store) })
	if shared, ok := store.(SharedStore); ok {
		shared.Announce(e.settings.Load().hash())
		e.loops.Go(func() { e.listen(shared) })
	}
	for _, l := range e.lanes {
		l.wake()
	}
	e.warnOfOrphans(e.settings.Load(), store)
}

// Store gives the open store, or an error that says why there is none.
func (e *Engine) Store() (Store, error) {
	if s := e.store.Load(); s != nil {
		return *s, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.store.Load(); s != nil { // opened just now
		return *s, nil
	}
	return nil, e.opening
}

// Close ends deliveries within the drain time of the newest settings, then closes the store. Callbacks get 503 from then on.
func (e *Engine) Close() error {
	e.starting.Lock()
	defer e.starting.Unlock()
	e.mu.Lock()
	if e.closing.Swap(true) {
		e.mu.Unlock()
		return nil
	}
	drain := DefaultDrain
	if s := e.settings.Load(); s.Drain > 0 {
		drain = s.Drain
	}
	for _, l := range e.lanes {
		l.stop()
	}
	e.mu.Unlock()

	drained := make(chan struct{})
	go func() {
		e.attempts.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drain):
		e.logger().Warn("attempts still in flight after the drain time are released", "drain", drain)
	}
	e.cancel()
	<-drained // an attempt ends at once when its context does

	e.committers.stop()
	close(e.stop)
	e.loops.Wait()
	e.metrics.remove(e)
	e.mu.Lock()
	defer e.mu.Unlock()
	store := e.store.Swap(nil)
	e.opening = ErrClosed
	err := e.closeSpool()
	if store == nil {
		return err
	}
	if e := (*store).Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("closing the store: %w", e))
	}
	return err
}

func (e *Engine) logger() *slog.Logger { return e.settings.Load().Logger }
