package relay

import "time"

// Batch holds operations that are written in one durable step.
type Batch struct {
	Settles []*Settle
	Accepts []*Accept
	Leases  []*Lease
}

// Result is the result of an accept.
type Result int

const (
	Accepted   Result = iota + 1 // a new event, or this very event, stored by an earlier try in doubt
	Duplicate                    // the key is there already, with the same fingerprint
	Conflict                     // the key is there already, with another fingerprint: the body is kept as a variant
	Unkept                       // as Conflict, but nothing was stored: there are MaxVariants already, or the event is gone
	Replayed                     // as Conflict, but nothing was stored: its proof (ProofHeader) has been used for another body
	Unexpected                   // nothing was stored: the event is a recovered one, and its task is not expected, or not any more
)

// Refusal returns why a store that has applied an accept kept nothing of its event: ErrUnkept or ErrReplayed. It is nil if the
// event is stored, or the same is there already.
func (r Result) Refusal() error {
	switch r {
	case Unkept:
		return ErrUnkept
	case Replayed:
		return ErrReplayed
	}
	return nil
}

// Accept is the request to store an event and its deliveries.
type Accept struct {
	Event *Event
	// Window is how long after its first acceptance a key is remembered.
	Window     time.Duration
	Deliveries []NewDelivery
	// Again notes that an earlier try of this accept may have been stored, and that nobody holds the leases which it carried.
	// Those still in flight go to this try: leased anew and fenced against their old tokens, or due at once where LeaseFor is
	// zero. A store whose leases belong to the process may leave them as they are.
	Again bool
	// Separate asks for an event of its own where the key is there with another fingerprint: it is Accepted under its
	// SeparateKey, as Event.Separated has it, and counted with the first one as a conflict. A repetition of either is a
	// Duplicate of it.
	Separate bool
	// ByKey notes that the key of the source's callbacks does not name their task, so that those of one key may be of different
	// tasks. A store that parts a source goes by the key then, and else by the task.
	ByKey bool
	// Ends, unless it is NotEnding, ends the event's task in the same step, if that is expected: as recovered if the event is
	// a recovered one and is Accepted, else as called back. A recovered event is Unexpected where its task is not expected. An
	// event with the ending of the recovered event of its task is no event of its own within Window, whatever its key and
	// Separate are: it is a Duplicate of that one or in Conflict with it.
	Ends Ending

	Result Result
	// FirstID is the id of the event that has the key: Event.ID unless the result is Duplicate or Conflict.
	FirstID string
	// ConflictWith is the id of the first event of the key, where the event was accepted beside it. It may be empty where an
	// earlier try has stored the event.
	ConflictWith string
	// Leased holds the deliveries that were leased at once, in no particular order.
	Leased []*Leased
	Err    error
}

// MaxVariants is how many bodies of conflicting callbacks are kept for an event; later ones are not taken.
const MaxVariants = 8

// NewDelivery is one delivery of an event to be accepted.
type NewDelivery struct {
	Destination string
	// LeaseFor, if positive, asks for the delivery to be leased as it is accepted. The store declines (and leaves the
	// delivery pending) where the destination is paused, older deliveries of it are due, or Ordered forbids.
	LeaseFor time.Duration
	// Ordered makes the delivery wait until every earlier ordered delivery of the same task and destination is settled.
	// One that is replayed goes before later ones again, but waits for the one that is in flight: never two at a time.
	Ordered bool
	// Behind is the destination of another delivery of the accept. This one waits, neither due nor leased, not by a probe
	// either, until that one is delivered or dead, or is there no more: it expired, was discarded or handed to another
	// destination, or its payload is gone. What waits can still expire or be discarded, but not be reassigned. Once it was freed
	// it waits no more: not when it is replayed, nor when the other one is. It does not wait where the accept has no delivery
	// of that name, or that one is behind another itself.
	Behind string
}

// Awaited returns the destination of the delivery that one of the accept's deliveries waits for, by the rule of
// NewDelivery.Behind; empty if it waits for none.
func (a *Accept) Awaited(n *NewDelivery) string {
	if n.Behind == "" || n.Behind == n.Destination {
		return ""
	}
	for i := range a.Deliveries {
		if d := &a.Deliveries[i]; d.Destination == n.Behind && d.Behind == "" {
			return n.Behind
		}
	}
	return ""
}

// MaxFiles is how many files of an event are kept; later ones are not.
const MaxFiles = 256

// Lease asks for up to Max due deliveries of one destination.
type Lease struct {
	Source      string
	Destination string
	Max         int
	For         time.Duration // how long the lease is valid, by the store's clock
	// Probe leases waiting deliveries whether or not they are due, those without any attempt first, then in the order of
	// their due times. Ordered still holds.
	Probe bool

	Leased []*Leased
	// Next is how long until something of this destination becomes due (or a lease expires); negative if nothing waits.
	// Zero means that more is due now than Max allowed.
	Next time.Duration
	// Paused reports that nothing was leased because an operator has paused the destination.
	Paused bool
	// Dead are deliveries whose event is gone, which became dead letters instead (payload_missing).
	Dead []DeadLetter
	Err  error
}

// Leased is a delivery in the hands of one worker, until its lease expires.
type Leased struct {
	Event       *Event // with the body to send: a variant's, if one was replayed
	Destination string
	// Token fences: a settle is refused when it is no longer the delivery's current one.
	Token uint64
	// Tries counts all attempts so far, those of probes too.
	Tries int
	// Used counts the attempts that used up the retry budget.
	Used int
	// Replay is how often the delivery was replayed.
	Replay int
	// Age is how long ago the event was accepted, or the delivery last replayed, by the store's clock at the lease.
	Age time.Duration
	// Files are the event's, where the delivery is the archive's own or was accepted behind another.
	Files []File
	// Awaiting holds destinations whose deliveries of the event may wait for this one, for the store that settles it. A store
	// that knows them by itself leaves it empty.
	Awaiting []string

	// LeasedAt is when the engine asked for the lease: not later than its beginning by the store's clock.
	LeasedAt time.Time
}

// Outcome is the state that a settle leaves a delivery in.
type Outcome int

const (
	OutcomeDelivered Outcome = iota + 1
	OutcomeRetry             // pending again, due after Delay
	OutcomeDead              // a dead letter
	OutcomeRelease           // pending and due again, as if it had not been leased; no attempt is recorded
)

// Settle ends a lease.
type Settle struct {
	Leased  *Leased
	Outcome Outcome
	// Delay is how long from now, by the store's clock, a retry is due.
	Delay time.Duration
	// Used reports whether the attempt used up some of the retry budget.
	Used bool
	// Attempt is recorded with the delivery; nil where none was made.
	Attempt *Attempt
	// Reason is why the delivery is dead where its last attempt does not show it: expired, payload_missing.
	Reason string
	// Files were stored by the attempt. They are kept with the event, whatever the outcome: one per field, of which a later one
	// replaces the earlier, and MaxFiles in all.
	Files []File

	// Freed holds the destinations whose deliveries of the event waited for this one, and do no more.
	Freed []string
	// Unblocked reports whether another delivery of the destination became due by this settle: its task's next one.
	Unblocked bool
	Err       error
}
