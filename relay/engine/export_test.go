package engine

import "github.com/callbackrelay/caddy-relay/relay"

// Accepted has the engine publish an event as one that was stored just now.
func (e *Engine) Accepted(ev *relay.Event) {
	e.accepted(&relay.Accept{Event: ev, Result: relay.Accepted})
}
