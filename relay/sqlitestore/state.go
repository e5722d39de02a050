package sqlitestore

import (
	"time"

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

// destination is what memory knows of a destination. It is changed under Store.mem by who also holds Store.write, once
// the change is durable, so that either lock suffices for reading.
type destination struct {
	id           int64
	source, name string
	sourceID     int64

	paused                   bool
	pending, delivered, dead int64 // pending includes what is leased

	// cursor is the highest event whose ready delivery was leased: ready ones behind it are in flight. What becomes
	// due again goes to waiting, so that a lease never passes over what is in flight.
	cursor int64
	low    int64 // as stored: no delivery of an event before this one is ready
	// readyMaybe and nextDue bound from below what a lease would find: nothing, if not readyMaybe and nextDue is ahead.
	readyMaybe bool
	nextDue    int64 // never if nothing waits

	leases  map[int64]*lease // by event
	expired int64

	oldest      int64 // the acceptance of the oldest pending delivery, when last looked at; 0 if unknown
	oldestKnown bool
}

const never = int64(1) << 62

// lease is one delivery in somebody's hands.
type lease struct {
	token   uint64
	expires int64
	chain   string
	// settling is set while a transaction is about to end the lease.
	settling bool
}

// lowest is the first event that may have a ready delivery, in flight or not.
func (d *destination) lowest() int64 {
	low := d.cursor + 1
	for event := range d.leases {
		low = min(low, event)
	}
	return max(low, d.low)
}

func (d *destination) noteDue(at int64) { d.nextDue = min(d.nextDue, at) }

// tally is a change of a destination's counts by a transaction.
type tally struct{ pending, delivered, dead, low int64 }

func millis(t time.Time) int64 { return t.UnixMilli() }

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func duration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// ceil is a duration in whole milliseconds, so that nothing is due before its time.
func ceil(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
