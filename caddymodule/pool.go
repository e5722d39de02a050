package caddymodule

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// engines holds the engine of every store in use, by the store's identity. So a reload that changes settings keeps the
// engine, its open store and the attempts in flight.
var engines = caddy.NewUsagePool()

// pooledEngine is an engine that outlives the config it was made for.
type pooledEngine struct {
	*engine.Engine
	identity  string
	store     Store // as it was configured when the engine was made
	latest    *latest
	dashboard dashboardLink
}

// acquireEngine returns the engine of a store, new or in use already. Each one must be released once. An engine in use goes
// on as it was made, whatever else than the store's identity has changed.
func acquireEngine(store Store) (*pooledEngine, error) {
	identity := store.Identity()
	value, _, err := engines.LoadOrNew(identity, func() (caddy.Destructor, error) {
		p := &pooledEngine{identity: identity, store: store, latest: newLatest(running{slog.New(slog.DiscardHandler), store})}
		if s, ok := store.(interface{ follow(current func() Store) }); ok {
			s.follow(func() Store { return p.latest.get().store })
		}
		options := store.Options()
		options.Driver, options.Location, _ = strings.Cut(identity, ":")
		options.Metrics = metrics
		options.Logger = slog.New(latestLog{latest: p.latest})
		options.Version = api.Version(debug.ReadBuildInfo())
		p.Engine = engine.New(options)
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*pooledEngine), nil
}

func (p *pooledEngine) release() error {
	_, err := engines.Delete(p.identity)
	return err
}

// begin sets an app's logger and store as those in use, until its end.
func (p *pooledEngine) begin(a *App) { p.latest.push(running{a.logger, a.store}) }

func (p *pooledEngine) end(a *App) { p.latest.remove(running{a.logger, a.store}) }

// Destruct is called by the pool after the last release.
func (p *pooledEngine) Destruct() error { return p.Close() }

// outdated returns the options of the store that are others here than those that the engine was made with.
func (p *pooledEngine) outdated(store Store) []string {
	if s, ok := store.(interface{ changes(other Store) []string }); ok {
		return s.changes(p.store)
	}
	return nil
}

// unsettled names what the engine still has to deliver, or to hand over from its spool; nothing if there is none. A store that
// is not open holds nothing that is known.
func (p *pooledEngine) unsettled() string {
	var parts []string
	if store, err := p.Store(); err == nil {
		n := int64(0)
		for _, c := range store.Counts() {
			n += c.Pending + c.InFlight
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d deliveries that are not settled", n))
		}
	}
	if n := p.Spooled(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d callbacks in its spool", n))
	}
	return strings.Join(parts, " and ")
}

// Interface guards
var _ caddy.Destructor = (*pooledEngine)(nil)
