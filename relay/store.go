package relay

import (
	"context"
	"errors"
	"time"
)

// MaxTouched is the most deliveries that one transaction or script of a store may touch,
// so that the accept path never waits behind bulk work.
const MaxTouched = 500

// Errors that a store answers with. Each may be wrapped with what went wrong and where.
var (
	// ErrNotFound: no such event, destination or delivery.
	ErrNotFound = errors.New("not found")
	// ErrLeaseLost: a settle came with a token that is no longer the current one. Nothing was changed.
	// A settle that was done and is applied again changes nothing either; a store may know it and not call it an error.
	ErrLeaseLost = errors.New("lease lost")
	// ErrStoreFull: the store refuses new events, for lack of room, but still takes settles.
	ErrStoreFull = errors.New("store full")
	// ErrStoreLocked: another process has the store open.
	ErrStoreLocked = errors.New("store locked")
	// ErrClosed: the store or the engine has been closed.
	ErrClosed = errors.New("closed")
	// ErrBadCursor: a cursor that this store did not hand out.
	ErrBadCursor = errors.New("bad cursor")
)

// Store keeps events and their deliveries. An implementation must pass the suite in internal/storetest.
//
// The store's clock decides everything about time: durations go in and come out, never times of a host's clock.
// It never jumps: a store whose clock may be stepped (a host's wall clock) must make sure that a step purges nothing
// and forgets nothing.
//
// All methods may be called concurrently. None but Close waits longer than its context.
type Store interface {
	// Apply makes a batch durable in one step: first its settles, then its accepts, then its leases, so that
	// a lease sees what the batch settled and accepted. The outcome of each operation is set in the operation itself.
	// Operations that were not done have Err set. After a failure whose outcome is unknown (a timeout) the same
	// accepts may be applied again, with the same event ids, and end in one event each, for as long as the event or the
	// record of its key is there.
	Apply(ctx context.Context, b *Batch)

	// Counts gives the deliveries of every destination that has any, or ever had. It answers from memory and never waits.
	Counts() []Count

	// Events lists events, newest first within a source. A page may be short, even empty, and still have a next cursor; the last page has none.
	Events(ctx context.Context, f EventFilter) (events []EventRecord, next string, err error)
	// Event gives one event with its deliveries, every attempt and its variants. ErrNotFound if there is none of this id.
	Event(ctx context.Context, id string) (*EventRecord, error)
	// DeadLetters lists deliveries given up, newest event first within a source.
	DeadLetters(ctx context.Context, s Selection, limit int, cursor string) (letters []DeadLetter, next string, err error)

	// Replay makes settled deliveries (delivered or dead) of an event pending anew, with a fresh retry budget and the
	// next replay number. It skips what is not settled. variant 0 is the first body, n the n-th variant's.
	// A destination of the list that had no delivery of the event gets one, which keeps no order.
	// ErrNotFound without such an event or variant.
	Replay(ctx context.Context, id string, destinations []string, variant int) (replayed, skipped int, err error)
	// Redrive replays up to MaxTouched dead letters of the selection, oldest event of a source first, each due after
	// `after` plus its place in this call times `every`, and with the body that it was to send, a variant's too.
	// It begins after a cursor, so that what dies again meanwhile is not found again; an empty next says that there are no more.
	Redrive(ctx context.Context, s Selection, after, every time.Duration, cursor string) (n int, next string, err error)
	// Discard deletes up to MaxTouched dead letters of the selection (with s.Orphaned also pending ones, and those whose
	// lease has expired). n < MaxTouched says that there are no more. What is left keeps its order.
	Discard(ctx context.Context, s Selection) (n int, err error)
	// Pause holds or releases a destination, lastingly.
	Pause(ctx context.Context, source, destination string, paused bool) error
	// Expire makes up to MaxTouched pending deliveries of a destination that were accepted, or last replayed, longer ago than
	// age dead letters with the error ErrExpired's text, whether or not they are due, and gives them back. Fewer than MaxTouched
	// say that there are no more. What is leased is left to its holder, until the lease has expired.
	Expire(ctx context.Context, source, destination string, age time.Duration) ([]DeadLetter, error)
	// Purge deletes what is past its retention: events whose deliveries are all settled, counted from the last settle,
	// and the dedupe records of events that are gone past their source's window, counted from the first acceptance; those of
	// others may stay. It goes by the policy of this call, for what earlier ones have let stay too. What is pending or leased never goes. It touches at most MaxTouched
	// deliveries and reports whether there is more to do now.
	Purge(ctx context.Context, p PurgePolicy) (PurgeResult, error)

	// Health says what is wrong with the store, or nil. It may wait for as long as its context allows.
	Health(ctx context.Context) error
	// PerSource reports whether each source is written by itself, so that a source that hangs holds up no other.
	PerSource() bool
	// Info describes the store for status: driver, path or addresses without credentials, free bytes. It never waits.
	Info() StoreInfo

	// Close waits for calls under way and closes the store, once. Where leases belong to the process, those that are still
	// held become void; tokens of before the close stay refused after it. Whatever can fail gives ErrClosed from then on.
	Close() error
}

// ErrExpired is the error of a delivery that was not delivered within its destination's `expire`.
var ErrExpired = errors.New("expired before it could be delivered")

// Batch is what waits to be written, in one durable step.
type Batch struct {
	Settles []*Settle
	Accepts []*Accept
	Leases  []*Lease
}

// Result is what became of an accept.
type Result int

const (
	Accepted  Result = iota + 1 // a new event, or this very event, stored by an earlier try in doubt
	Duplicate                   // the key is there already, with the same fingerprint
	Conflict                    // the key is there already, with another fingerprint
)

// Accept is the request to store an event and its deliveries.
type Accept struct {
	Event *Event
	// Window is how long after its first acceptance a key is remembered.
	Window     time.Duration
	Deliveries []NewDelivery

	Result Result
	// FirstID is the id of the event that has the key: Event.ID unless the result is Duplicate or Conflict.
	FirstID string
	// Leased holds the deliveries that were leased at once, in no particular order.
	Leased []*Leased
	Err    error
}

// MaxVariants is how many bodies of conflicting callbacks are kept for an event; later ones are only counted.
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
}

// Lease asks for up to Max due deliveries of one destination.
type Lease struct {
	Source      string
	Destination string
	Max         int
	For         time.Duration // how long the lease is valid, by the store's clock
	// Probe takes waiting deliveries whether or not they are due, those without any attempt first, then in the order of
	// their due times. Ordered still holds.
	Probe bool

	Leased []*Leased
	// Next is how long until something of this destination becomes due (or a lease expires); negative if nothing waits.
	// Zero means that more is due now than Max allowed.
	Next time.Duration
	// Paused says that nothing was leased because an operator has paused the destination.
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

	leasedAt time.Time // when the engine asked for the lease: not later than its beginning by the store's clock
}

// Outcome is what a settle makes of a delivery.
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
	// Used says that the attempt used up some of the retry budget.
	Used bool
	// Attempt is recorded with the delivery; nil where none was made.
	Attempt *Attempt
	// Reason is why the delivery is dead where its last attempt does not say it: expired, payload_missing.
	Reason string

	// Unblocked says that another delivery of the destination became due by this settle: its task's next one.
	Unblocked bool
	Err       error
}

// Count is what a store holds of one destination.
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
	Limit        int
	Cursor       string
}

// Selection selects dead letters by the time they were given up.
type Selection struct {
	Source, Destination string
	Since, Until        time.Time // DeadAt in [Since, Until)
	// Orphaned adds, for Discard, pending deliveries of exactly Source and Destination, which then must both be given.
	Orphaned bool
}

// EventRecord is an event as the store has it. Lists leave out Headers, Body, attempts and variants.
type EventRecord struct {
	Event
	Duplicates int
	Conflicts  int // callbacks of the same key that said something else, kept as a variant or not
	Deliveries []DeliveryRecord
	Variants   []Variant
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
	Reason      string // why it is dead, where the last attempt does not say it
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
	EventID     string    `json:"event_id"`
	Source      string    `json:"source"`
	TaskID      string    `json:"task_id"`
	Destination string    `json:"destination"`
	Attempts    int       `json:"attempts"`
	LastStatus  int       `json:"last_status"`
	LastError   string    `json:"last_error"`
	DeadAt      time.Time `json:"dead_at"`
}

// PurgePolicy says what Purge may delete.
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
	Driver    string `json:"driver"`
	Location  string `json:"location"`
	FreeBytes int64  `json:"free_bytes"` // -1 where unknown
	// EvictionPolicy is what Redis does at maxmemory, as far as has been seen: noeviction is the one that loses nothing.
	// It is unknown where Redis does not say.
	EvictionPolicy string `json:"eviction_policy,omitempty"`
}
