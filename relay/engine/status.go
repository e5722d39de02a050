package engine

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/courier"
	"github.com/callbackrelay/caddy-relay/relay/engine/lane"
)

// Status describes the store, the spool, the gateways, and what they serve.
type Status struct {
	Store StoreStatus
	Spool *SpoolStatus // nil where there is none
	Nodes []relay.NodeStatus
	// Drift reports that gateways which share the store have different sources.
	Drift        bool
	Sources      []SourceStatus
	Destinations []DestinationStatus
}

// StoreStatus is the state of a store.
type StoreStatus struct {
	relay.StoreInfo
	Up    bool
	Error string
}

// SpoolStatus is the state of the spool.
type SpoolStatus struct {
	Location      string
	FreeBytes     int64 // on its disk; -1 where unknown
	Up            bool
	Error         string
	Events        int
	Stuck         int // set aside, since the store refuses them
	Bytes         int64
	OldestSeconds float64
}

// SourceStatus is one configured source.
type SourceStatus struct {
	Name string
	// Open reports that neither an address list nor a verifier keeps anyone from calling.
	Open         bool
	Destinations []string
	Tasks        *relay.TaskCount // nil where the source recovers nothing, and has no task
}

// DestinationStatus is one destination, configured or orphaned.
type DestinationStatus struct {
	Source string
	Name   string
	// State is active, held, paused or orphaned.
	State                string
	Counts               StateCounts
	OldestPendingSeconds float64
	Paused               bool
	Breaker              BreakerStatus
	Client               string // as courier.ClientOf names it; empty for one that is orphaned
}

// StateCounts are the deliveries of a destination by state. Held, paused and orphaned ones are counted there and not as pending.
type StateCounts struct {
	Pending   int64
	InFlight  int64
	Delivered int64
	Dead      int64
	Held      int64
	Paused    int64
	Orphaned  int64
}

// BreakerStatus is the breaker of a destination, on this node.
type BreakerStatus struct {
	State     string // breakerClosed or breakerOpen
	Failures  int
	NextProbe *time.Time
}

const (
	breakerClosed = "closed"
	breakerOpen   = "open"
)

// Status describes store, sources and destinations.
func (e *Engine) Status(ctx context.Context) Status {
	host, _ := os.Hostname() // an empty name is as good as an error here
	s := e.settings.Load()
	st := Status{Nodes: []relay.NodeStatus{{Name: host, PID: os.Getpid()}}, Sources: []SourceStatus{}, Destinations: []DestinationStatus{}}
	var counts []relay.Count
	st.Store.StoreInfo = relay.StoreInfo{Driver: e.options.Driver, Location: e.options.Location, FreeBytes: -1, Unread: true}
	store, err := e.Store()
	if err == nil {
		err = e.sweeper.Look(ctx, store)
		st.Store = StoreStatus{StoreInfo: store.Info(), Up: true} // with what that has found out
		counts = store.Counts()
	}
	if err != nil {
		st.Store.Up, st.Store.Error = false, err.Error()
	}
	st.Spool = e.spoolStatus()
	if shared, ok := store.(relay.SharedStore); ok {
		if nodes := shared.Nodes(); len(nodes) > 0 {
			st.Nodes = nodes
			st.Drift = slices.ContainsFunc(nodes, func(n relay.NodeStatus) bool { return n.Config != nodes[0].Config })
		}
	}
	tasks := e.taskCounts()
	for _, src := range s.Sources {
		names := []string{}
		for _, d := range src.Destinations {
			names = append(names, d.Name)
		}
		one := SourceStatus{Name: src.Name, Open: src.Open(), Destinations: names}
		if c, ok := tasks[src.Name]; ok {
			one.Tasks = &c
		}
		st.Sources = append(st.Sources, one)
	}
	for _, c := range withNone(s, counts) {
		if s.Destination(c.Source, c.Destination) != nil || c.Pending+c.InFlight+c.Dead > 0 {
			st.Destinations = append(st.Destinations, e.destinationStatus(c))
		}
	}
	slices.SortFunc(st.Sources, func(a, b SourceStatus) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(st.Destinations, func(a, b DestinationStatus) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Name, b.Name))
	})
	return st
}

func (e *Engine) destinationStatus(c relay.Count) DestinationStatus {
	d := DestinationStatus{
		Source: c.Source, Name: c.Destination, State: "active", Paused: c.Paused,
		Counts:               StateCounts{Pending: c.Pending, InFlight: c.InFlight, Delivered: c.Delivered, Dead: c.Dead},
		OldestPendingSeconds: c.OldestPending.Seconds(),
		Breaker:              BreakerStatus{State: breakerClosed},
	}
	if l := e.lanes.Get(relay.DestinationName{Source: c.Source, Destination: c.Destination}); l != nil {
		d.Breaker = breakerStatus(l.Breaker())
	}
	if dst := e.settings.Load().Destination(c.Source, c.Destination); dst != nil {
		d.Client = courier.ClientOf(dst)
	}
	if state := e.displayState(c.Source, c.Destination, c.Paused); state != "" {
		d.State = string(state)
		d.Counts.Pending = 0
		switch state {
		case relay.StateOrphaned:
			d.Counts.Orphaned = c.Pending
		case relay.StatePaused:
			d.Counts.Paused = c.Pending
		case relay.StateHeld:
			d.Counts.Held = c.Pending
		}
	}
	return d
}

// DisplayStates returns how pending deliveries of a destination are shown: orphaned, paused, held, or (empty) pending. Call
// it once for a whole list: it asks the store which destinations are paused, since that may be another gateway's doing.
func (e *Engine) DisplayStates() func(source, destination string) relay.State {
	paused := map[relay.DestinationName]bool{}
	if store, err := e.Store(); err == nil {
		for _, c := range store.Counts() {
			paused[relay.DestinationName{Source: c.Source, Destination: c.Destination}] = c.Paused
		}
	}
	return func(source, destination string) relay.State {
		return e.displayState(source, destination, paused[relay.DestinationName{Source: source, Destination: destination}])
	}
}

func (e *Engine) displayState(source, destination string, paused bool) relay.State {
	if e.settings.Load().Destination(source, destination) == nil {
		return relay.StateOrphaned
	}
	if paused {
		return relay.StatePaused
	}
	if l := e.lanes.Get(relay.DestinationName{Source: source, Destination: destination}); l != nil && l.Breaker().Open {
		return relay.StateHeld
	}
	return ""
}

func breakerStatus(b lane.Breaker) BreakerStatus {
	st := BreakerStatus{State: breakerClosed, Failures: b.Failures}
	if b.Open {
		st.State, st.NextProbe = breakerOpen, &b.NextProbe
	}
	return st
}

func (e *Engine) spoolStatus() *SpoolStatus {
	stat, configured, up, err := e.spooling.Stat()
	if !configured {
		return nil
	}
	st := &SpoolStatus{
		Location: stat.Path, FreeBytes: stat.Free, Up: up, Events: stat.Events, Stuck: stat.Stuck, Bytes: stat.Bytes, OldestSeconds: stat.Age().Seconds(),
	}
	if err != nil {
		st.Error = err.Error()
	} else if stat.Error != "" {
		st.Up, st.Error = false, stat.Error
	}
	return st
}

// Spooled counts what waits in the spool, without what is stuck.
func (e *Engine) Spooled() int {
	stat, _, _, _ := e.spooling.Stat()
	return stat.Events
}
