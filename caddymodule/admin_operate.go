package caddymodule

import (
	"net/http"
	"slices"
	"strings"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

func replay(e *engine.Engine, r *http.Request) (any, error) {
	var request api.ReplayEventRequest
	if err := readRequest(r, &request, false); err != nil {
		return nil, err
	}
	// No list means all of them; an empty one is what a script sends when a variable is unset.
	if request.Destinations != nil && len(request.Destinations) == 0 {
		return nil, badRequest("destinations: expected at least one name, or no such field for all of them.")
	}
	for _, name := range request.Destinations {
		if err := checkName(name); err != nil {
			return nil, badRequest("destinations: " + err.Error() + ".")
		}
	}
	if request.Variant < 0 || request.Variant > relay.MaxVariants {
		return nil, badRequest("variant: expected 0 for the first body, or the number of a variant.")
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	replayed, skipped, err := e.Replay(r.Context(), r.PathValue("id"), request.Destinations, request.Variant)
	if err != nil {
		return nil, err
	}
	return api.Replayed{Replayed: replayed, Skipped: skipped}, nil
}

func replayAll(e *engine.Engine, r *http.Request) (any, error) {
	var request api.ReplayRequest
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	filter, err := parseReplay(&request)
	if err != nil {
		return nil, err
	}
	rate, err := parsePace(request.Rate)
	if err != nil {
		return nil, err
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	replayed, skipped, err := e.ReplayAll(r.Context(), filter, rate, request.DryRun)
	if err != nil {
		return nil, err
	}
	return api.Replayed{Replayed: replayed, Skipped: skipped}, nil
}

func parseReplay(r *api.ReplayRequest) (f relay.EventFilter, err error) {
	if r.Source == "" || r.Destination == "" && r.TaskID == "" && r.State == "" && r.Since == "" && r.Until == "" {
		return f, badRequest("Expected source, and at least one of destination, task_id, state, since and until.")
	}
	if err := checkNames(field{"source", r.Source}, field{"destination", r.Destination}); err != nil {
		return f, err
	}
	if r.State != "" && !slices.Contains(eventStates, r.State) {
		return f, badRequest("state: expected " + strings.Join(eventStates, ", ") + ".")
	}
	f = relay.EventFilter{Source: r.Source, Destination: r.Destination, TaskID: r.TaskID, State: relay.State(r.State)}
	if f.Since, err = selectedTime("since", r.Since); err != nil {
		return f, err
	}
	f.Until, err = selectedTime("until", r.Until)
	return f, err
}

func reassign(e *engine.Engine, r *http.Request) (any, error) {
	var request api.ReassignRequest
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	source, from := r.PathValue("source"), r.PathValue("name")
	if request.To == "" {
		return nil, badRequest("to: expected the name of a destination.")
	}
	if err := checkNames(field{"source", source}, field{"name", from}, field{"to", request.To}); err != nil {
		return nil, err
	}
	if request.To == from {
		return nil, badRequest("to: expected another name than that of the destination itself.")
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	done, err := e.Reassign(r.Context(), source, from, request.To)
	if err != nil {
		return nil, err
	}
	return api.Reassigned{Reassigned: done.Moved, Left: done.Left}, nil
}

func pause(paused bool) endpoint {
	return func(e *engine.Engine, r *http.Request) (any, error) {
		var none struct{}
		if err := readRequest(r, &none, false); err != nil {
			return nil, err
		}
		if err := withStore(e); err != nil {
			return nil, err
		}
		source, name := r.PathValue("source"), r.PathValue("name")
		if err := e.Pause(r.Context(), source, name, paused); err != nil {
			return nil, err
		}
		return api.Paused{Source: source, Destination: name, Paused: paused}, nil
	}
}
