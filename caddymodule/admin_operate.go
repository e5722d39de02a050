package caddymodule

import (
	"net/http"

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
