package caddymodule

import (
	"context"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

// statusTimeout is how long a store may need to answer how it is.
const statusTimeout = 5 * time.Second

func status(e *engine.Engine, r *http.Request) (any, error) {
	if q := parseQuery(r); q.err != nil {
		return nil, q.err
	}
	ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
	defer cancel()
	return viewStatus(e.Status(ctx)), nil
}

func viewStatus(s engine.Status) api.Status {
	view := api.Status{
		Store:        viewStore(&s.Store),
		Spool:        (*api.SpoolStatus)(s.Spool),
		Nodes:        make([]api.NodeStatus, len(s.Nodes)),
		Drift:        s.Drift,
		Sources:      make([]api.SourceStatus, len(s.Sources)),
		Destinations: make([]api.DestinationStatus, len(s.Destinations)),
	}
	for i, n := range s.Nodes {
		view.Nodes[i] = api.NodeStatus(n)
	}
	for i, src := range s.Sources {
		view.Sources[i] = api.SourceStatus{Name: src.Name, Open: src.Open, Destinations: src.Destinations}
		if src.Tasks != nil {
			view.Sources[i].Tasks = &api.TaskCounts{Expected: src.Tasks.Expected, Overdue: src.Tasks.Overdue}
		}
	}
	for i, d := range s.Destinations {
		view.Destinations[i] = api.DestinationStatus{
			Source:               d.Source,
			Name:                 d.Name,
			State:                d.State,
			Counts:               api.StateCounts(d.Counts),
			OldestPendingSeconds: d.OldestPendingSeconds,
			Paused:               d.Paused,
			Breaker:              api.BreakerStatus(d.Breaker),
			Client:               d.Client,
		}
	}
	return view
}

func viewStore(s *engine.StoreStatus) api.StoreStatus {
	return api.StoreStatus{
		Driver:          s.Driver,
		Location:        s.Location,
		FreeBytes:       s.FreeBytes,
		Unread:          s.Unread,
		EvictionPolicy:  s.EvictionPolicy,
		AppendOnly:      s.AppendOnly,
		AppendFsync:     s.AppendFsync,
		AOFDelayedFsync: s.AOFDelayedFsync,
		Up:              s.Up,
		Error:           s.Error,
	}
}
