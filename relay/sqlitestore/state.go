package sqlitestore

import (
	"github.com/callbackrelay/caddy-relay/relay"
)

// The states of a delivery, as schema.sql and the statements have them. A lease is not a state: leases live in memory,
// so that they cost no write and are void when the process ends.
const (
	ready     = 0 // accepted and never leased since the last start: due in the order of acceptance
	waiting   = 1 // due at its due time: a retry, or anything that became ready again
	delivered = 2
	dead      = 3
	blocked   = 4 // behind an earlier delivery of its task
)

// The same in statements: an index of some states serves only a statement that names them.
const (
	sqlReady     = "0"
	sqlWaiting   = "1"
	sqlDelivered = "2"
	sqlDead      = "3"
	sqlBlocked   = "4"
)

func stateOf(state int64, leased bool) relay.State {
	switch {
	case state == delivered:
		return relay.StateDelivered
	case state == dead:
		return relay.StateDead
	case leased:
		return relay.StateInFlight
	}
	return relay.StatePending
}
