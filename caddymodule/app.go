package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App keeps accepted callbacks in a durable store and delivers them to the destinations of their sources. The sources
// themselves are defined by `relay` handlers.
//
// For every delivery given up it emits the Caddy event `relay_dead_letter`, whose data are `event_id`, `source`, `task_id`,
// `destination`, `attempts`, `last_status`, `last_error` and `dead_at`.
type App struct {
	// Where events and deliveries are kept. Default: `{"driver": "sqlite"}`.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=relay.stores inline_key=driver"`

	// How long an event stays visible after its last delivery was settled. Default: 72h.
	Retention Duration `json:"retention,omitempty"`

	// How long an event with a dead letter stays, after its last settle. Default: 720h.
	DeadLetterRetention Duration `json:"dead_letter_retention,omitempty"`

	// How long attempts in flight may go on when Caddy stops. Default: 10s.
	Drain Duration `json:"drain,omitempty"`

	// Lets a reload change to another store although the old one still holds deliveries that are not settled; they wait
	// in it until it is configured again. Default: false, such a reload is refused.
	AbandonStore bool `json:"abandon_store,omitempty"`

	// Who is alerted of what. Default: nobody.
	Alerts *Alerts `json:"alerts,omitempty"`

	ctx    caddy.Context
	logger *slog.Logger
	events *caddyevents.App
	alerts *relay.Alerts // nil without alerts, whose source is among the sources
	pooled *pooledEngine // nil until acquired
	store  Store

	mu        sync.Mutex
	sources   map[string]registration
	submitted map[string]bool            // sources of relay_submit handlers
	inspected map[*caddyhttp.Server]bool // for lost callbacks

	dashboard  atomic.Bool // a dashboard is mounted
	emitter    *emitter
	generation *engine.Generation
	running    context.Context // ends when Stop begins, and with it what admin clients follow
	stop       context.CancelFunc
}

// registration is a source with the configuration that it was made from.
type registration struct {
	canonical []byte
	source    *relay.Source
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "relay",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision acquires the engine of the configured store. It neither opens nor needs the store.
func (a *App) Provision(ctx caddy.Context) error {
	canonical, err := canonicalJSON(a)
	if err != nil {
		return err
	}
	return places.locate(canonical, a.provision(ctx))
}

func (a *App) provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.running, a.stop = context.WithCancel(ctx)
	a.logger = ctx.Slogger()
	a.sources = make(map[string]registration)
	a.submitted = make(map[string]bool)
	a.inspected = make(map[*caddyhttp.Server]bool)
	for name, d := range map[string]Duration{
		"retention": a.Retention, "dead_letter_retention": a.DeadLetterRetention, "drain": a.Drain,
	} {
		if d < 0 {
			return fmt.Errorf("%s: expected a positive duration, got %s", name, d)
		}
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	a.events = events.(*caddyevents.App)

	if a.StoreRaw == nil {
		a.StoreRaw = json.RawMessage(`{"driver":"sqlite"}`)
	}
	module, err := ctx.LoadModule(a, "StoreRaw")
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	store, ok := module.(Store)
	if !ok {
		return fmt.Errorf("store: %T is not a store of events", module)
	}
	if s, ok := module.(interface{ literalSecret() bool }); ok && s.literalSecret() {
		warnOfLiteral(a.logger, "the password of store")
	}
	if a.Alerts != nil {
		if err := a.provisionAlerts(ctx); err != nil {
			return fmt.Errorf("alerts: %w", err)
		}
	}
	a.store = store
	a.pooled, err = acquireEngine(store)
	if err != nil {
		return err
	}
	if changed := a.pooled.outdated(store); len(changed) > 0 {
		a.logger.Warn("the store stays open with the settings it was opened with; those that changed count after a restart",
			"store", a.pooled.identity, "changed", strings.Join(changed, ", "))
	}
	return a.checkAbandoned()
}

// register returns the source of this name, which build makes if no handler has registered it yet. All handlers of a source
// must have the same configuration, since deliveries know their source by its name only.
func (a *App) register(name string, canonical []byte, build func() (*relay.Source, error)) (*relay.Source, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.sources[name]; ok {
		if !bytes.Equal(known.canonical, canonical) {
			where := "by two relay handlers"
			if at := places.find(known.canonical); at != "" {
				where = "at " + at
			}
			return nil, fmt.Errorf("source %q is defined differently %s; expected the same settings, or another name", name, where)
		}
		return known.source, nil
	}
	source, err := build()
	if err == nil {
		err = a.checkParted(source)
	}
	if err != nil {
		return nil, fmt.Errorf("source %q: %w", name, err)
	}
	a.sources[name] = registration{canonical, source}
	return source, nil
}

// checkParted refuses a source whose tasks would be torn apart by a store that parts sources, be it as configured, or as it was
// opened.
func (a *App) checkParted(source *relay.Source) error {
	parted := func(s Store) bool {
		p, ok := s.(interface{ parted() bool })
		return ok && p.parted()
	}
	if !source.ByKey() || !parted(a.store) && !parted(a.pooled.store) {
		return nil
	}
	const remedy = "expected dedupe to name task_id, since the store parts a source by it, or partitions 1 in the store"
	for _, d := range source.Destinations {
		if d.OrderTask {
			return fmt.Errorf("destination %q: order task: %s", d.Name, remedy)
		}
	}
	if source.Recover != nil {
		return errors.New("recover: " + remedy)
	}
	return nil
}

// provisionAlerts sets up the built-in source, and which conditions its events are about.
func (a *App) provisionAlerts(ctx caddy.Context) error {
	alerts, source, err := a.Alerts.build(ctx)
	if err != nil {
		return err
	}
	alerts.Dashboard = a.dashboardURL
	a.alerts = alerts
	a.sources[source.Name] = registration{source: source}
	return nil
}

// dashboardURL returns the URL of the dashboard; empty where none is mounted, or nobody has opened it yet.
func (a *App) dashboardURL() string {
	if !a.dashboard.Load() {
		return ""
	}
	return a.pooled.dashboard.link()
}

// inspect warns once for each server of relay handlers whose callbacks get lost.
func (a *App) inspect(server *caddyhttp.Server) {
	a.mu.Lock()
	seen := a.inspected[server]
	a.inspected[server] = true
	a.mu.Unlock()
	if !seen {
		warnOfLost(server, a.logger)
	}
}

// checkAbandoned refuses a config that would leave deliveries behind in another store.
func (a *App) checkAbandoned() error {
	if a.AbandonStore {
		return nil
	}
	var err error
	engines.Range(func(_, value any) bool {
		other := value.(*pooledEngine)
		if what := other.unsettled(); other != a.pooled && what != "" {
			err = fmt.Errorf("the store %s still holds %s: let them finish, or set abandon_store to leave them there until it is configured again",
				other.identity, what)
		}
		return err == nil
	})
	return err
}

// relayApp returns the app of a config.
func relayApp(ctx caddy.Context) (*App, error) {
	module, err := ctx.App("relay")
	if err != nil {
		return nil, err
	}
	return module.(*App), nil
}

// Start opens the store, unless it is open, and makes this config's settings the current ones.
func (a *App) Start() error {
	// Callbacks went on coming in since Provision.
	if err := a.checkAbandoned(); err != nil {
		return err
	}
	sources, err := a.settle()
	if err != nil {
		return err
	}
	if a.emitter, err = startEmitter(a.ctx, a.events, a.pooled.Event, a.pooled.Logger(a.logger)); err != nil {
		return err
	}
	a.pooled.begin(a)
	settings := &relay.Settings{
		Sources:             sources,
		Retention:           a.Retention.or(relay.DefaultRetention),
		DeadLetterRetention: a.DeadLetterRetention.or(relay.DefaultDeadLetterRetention),
		Drain:               a.Drain.or(relay.DefaultDrain),
		Logger:              a.logger,
		Alerts:              a.alerts,
		OnDeadLetter:        a.emitter.offer,
	}
	if _, err := shownApp(); err != nil {
		// There are no settings that a refusal of these would have to leave in use.
		a.generation = a.pooled.Push(settings)
		firstApp.Store(a)
	}
	if err := a.open(); err != nil {
		a.withdraw()
		return err
	}
	if a.generation == nil {
		a.generation = a.pooled.Push(settings)
	}
	return nil
}

// open opens the store, unless it is open.
func (a *App) open() error {
	if err := a.pooled.Start(a.ctx); err != nil {
		return fmt.Errorf("opening the store %s: %w", a.pooled.identity, err)
	}
	return a.checkOpened()
}

// checkOpened refuses a reload to another store that cannot be opened, since the one before it is in use and works. A store on
// the network that does not answer may be away for a while: its spool takes the callbacks, and the log has what happened.
func (a *App) checkOpened() error {
	before := ""
	engines.Range(func(_, value any) bool {
		other := value.(*pooledEngine)
		if _, err := other.Store(); err == nil && other != a.pooled {
			before = other.identity
		}
		return before == ""
	})
	if before == "" {
		return nil // the first start, or no worse than what was there
	}
	store, err := a.pooled.Store()
	if err != nil {
		return fmt.Errorf("the store %s cannot be opened, and %s stays in use: %w", a.pooled.identity, before, err)
	}
	if store.Info().Unread {
		a.logger.Warn("the store was changed by this reload, and the new one does not answer: callbacks wait in its spool, or get 503 where it has none; "+
			"to go back, load the former config, with abandon_store where callbacks wait: they stay in the spool until its store is configured again",
			"store", a.pooled.identity, "before", before)
	}
	return nil
}

// settle returns the sources, of which there are no more to come, and checks that there are those that tasks are submitted for.
func (a *App) settle() (map[string]*relay.Source, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sources := make(map[string]*relay.Source, len(a.sources))
	for name, r := range a.sources {
		sources[name] = r.source
	}
	for name := range a.submitted {
		if sources[name] == nil {
			return nil, fmt.Errorf("relay_submit %s: %w", name, errUnknownSource)
		}
	}
	return sources, nil
}

// Stop withdraws this config's settings. Those of a config that has started meanwhile stay the current ones; if this one
// failed to start as a whole, those of the config before it are current again.
func (a *App) Stop() error {
	a.stop()
	a.withdraw()
	return nil
}

// withdraw withdraws what Start has made current. It may be called more than once.
func (a *App) withdraw() {
	firstApp.CompareAndSwap(a, nil)
	if a.generation != nil {
		a.generation.Withdraw()
	}
	a.pooled.end(a)
}

// Cleanup releases the engine, which drains and closes when no config uses it any more. The emitter goes last, since what
// is drained may become a dead letter, and has what is left of the drain time; handlers of its event still run, unless they were
// cleaned up before the app: Caddy has no order there.
func (a *App) Cleanup() error {
	if a.pooled == nil {
		return nil // Provision failed before it acquired one: the running config's must stay
	}
	if a.generation != nil {
		_ = a.Stop() // Caddy does not stop a config that fails after its apps have started
	}
	start := time.Now()
	err := a.pooled.release()
	if a.emitter != nil {
		a.emitter.stop(max(a.Drain.or(relay.DefaultDrain)-time.Since(start), handlerGrace))
	}
	return err
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
