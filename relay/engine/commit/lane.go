package commit

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Lane is the lane of a destination, as a committer sees it.
type Lane interface {
	// Want returns the lease that the lane asks for at this step, or nil. credit is how many of its slots the step is about
	// to free.
	Want(credit int) *relay.Lease
	// Leased handles the result of that lease. before is when the step began: not later than the lease.
	Leased(lease *relay.Lease, before time.Time)
	// Reserve reserves a slot for a delivery that is about to be accepted and returns how long to lease it; zero if it must
	// wait in the store. credit is that of Want.
	Reserve(credit int) time.Duration
	// Accepted handles a delivery for which Reserve was asked: d if it was leased at once, else nil. stored reports whether
	// it waits in the store now.
	Accepted(reserved bool, d *relay.Leased, stored bool, before time.Time)
	// Settled frees the slot of a settle that is durable, or was refused.
	Settled(s *Settling)
	// Wake has the lane look for due deliveries.
	Wake()
}

// Lanes finds lanes.
type Lanes interface {
	// Lane returns the lane of a destination, or nil where none was ever configured.
	Lane(name relay.DestinationName) Lane
}
