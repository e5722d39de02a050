package relay

import (
	"cmp"
	"time"
)

// Count counts the deliveries of one destination in a store.
type Count struct {
	Source, Destination                string
	Pending, InFlight, Delivered, Dead int64
	Paused                             bool
	// OldestPending is how long ago the oldest delivery not settled was accepted; it may lag by some seconds.
	OldestPending time.Duration
	// LeaseExpired counts the leases that expired since the store was opened.
	LeaseExpired int64
}

// EventFilter selects events. Zero fields select all.
type EventFilter struct {
	Source      string
	TaskID      string
	Destination string
	// State is pending, delivered or dead, as an event's State is.
	State        State
	Since, Until time.Time // ReceivedAt in [Since, Until)
	// Oldest lists the oldest event of a source first. A cursor belongs to the order that it was handed out for.
	Oldest bool
	// After is where a list with Oldest begins: it has only events whose Seq is greater.
	After  int64
	Limit  int
	Cursor string
}

// Selection selects dead letters by the time they were given up.
type Selection struct {
	Source, Destination string
	Since, Until        time.Time // DeadAt in [Since, Until)
	// Orphaned adds, for Discard, pending deliveries of exactly Source and Destination, which then must both be given.
	Orphaned bool
}

// Pace sets when the deliveries that are replayed in one call are due: each after After plus its place in the call times
// Every.
type Pace struct {
	After, Every time.Duration
	// Asked is how long ago the operation was asked for of which the call is a part. What was replayed since then is not
	// replayed again: another operator has asked for the same.
	Asked time.Duration
}

// Due returns how long from now the delivery at a place is due.
func (p Pace) Due(place int) time.Duration { return p.After + time.Duration(place)*p.Every }

// Reassigned counts what became of deliveries that were to be handed to another destination.
type Reassigned struct{ Moved, Left int }

// DeliveryName names a delivery within its source.
type DeliveryName struct{ EventID, Destination string }

// EventRecord is an event as the store has it. Lists leave out Headers, Body, attempts, variants and files.
type EventRecord struct {
	Event
	// Sequence names the sequence of which Seq is, if the store has several. Events of one are in the order in which they were
	// stored.
	Sequence   string
	Duplicates int
	Conflicts  int              // callbacks of the same key that said something else, repetitions of them included
	Deliveries []DeliveryRecord // by destination
	Variants   []Variant
	Files      []File // in the archive, by field
}

// State is pending while any delivery is pending or in flight, else dead if any is dead, else delivered.
func (r *EventRecord) State() State {
	state := StateDelivered
	for _, d := range r.Deliveries {
		switch d.State {
		case StatePending, StateInFlight:
			return StatePending
		case StateDead:
			state = StateDead
		}
	}
	return state
}

// DeliveryRecord is a delivery as the store has it.
type DeliveryRecord struct {
	Destination string
	State       State
	Tries       int
	Replay      int
	Variant     int
	// NextAttempt is how long from now the delivery is due, where it is pending; zero if it is due.
	NextAttempt time.Duration
	Reason      string // why it is dead, where the last attempt does not show it
	DeadAt      time.Time
	Attempts    []Attempt
}

// Variant is the body of a conflicting callback.
type Variant struct {
	N          int // 1 to MaxVariants
	ReceivedAt time.Time
	Headers    Headers
	Body       []byte
}

// DeadLetter is a delivery given up.
type DeadLetter struct {
	EventID     string
	Source      string
	TaskID      string
	Destination string
	Attempts    int
	LastStatus  int
	LastError   string
	DeadAt      time.Time
}

// PurgePolicy sets what Purge may delete.
type PurgePolicy struct {
	Retention           time.Duration // after the last settle, if nothing is dead
	DeadLetterRetention time.Duration // after the last settle, if anything is dead
	// Windows are the dedupe windows of the current sources. Records of other sources are kept for DefaultWindow.
	Windows       map[string]time.Duration
	DefaultWindow time.Duration
}

// PurgeResult counts what Purge deleted.
type PurgeResult struct {
	Events      int
	DeadLetters map[DestinationName]int // with the events of dead letters
	Deliveries  map[DestinationName]int // all deliveries that went, dead letters among them
	More        bool
}

// DestinationName names a destination within its source.
type DestinationName struct{ Source, Destination string }

// StoreInfo describes a store.
type StoreInfo struct {
	Driver    string
	Location  string
	FreeBytes int64 // -1 where unknown
	// Unread is set until the store has been read once since it was opened, as while Redis is away: no count is known then.
	Unread bool
	// EvictionPolicy is Redis's policy at maxmemory, as far as has been seen: noeviction is the one that loses nothing.
	// It is unknown where Redis does not say.
	EvictionPolicy string
	// AppendOnly (yes, no) and AppendFsync (always, everysec, no) are what Redis's persistence was set to by the last look;
	// of several masters the least durable counts. Each is unknown where Redis does not say, and empty for other stores.
	AppendOnly  string
	AppendFsync string
	// AOFDelayedFsync counts the writes that Redis answered while its disk was still busy with an earlier fsync, since its
	// start. It is nil where Redis does not say, and for other stores.
	AOFDelayedFsync *int64
}

// NodeStatus is one gateway.
type NodeStatus struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Config is a hash of the gateway's sources. Where two gateways differ, one of them has an old configuration.
	Config string `json:"config,omitempty"`
}

// Compare orders nodes for people.
func (n NodeStatus) Compare(other NodeStatus) int {
	return cmp.Or(cmp.Compare(n.Name, other.Name), cmp.Compare(n.PID, other.PID), cmp.Compare(n.Config, other.Config))
}
