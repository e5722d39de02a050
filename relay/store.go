package relay

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MaxTouched is the most deliveries that one transaction or script of a store may touch,
// so that the accept path never waits behind bulk work.
const MaxTouched = 500

// Errors that a store returns. Each may be wrapped with what went wrong and where.
var (
	// ErrNotFound: no such event, destination or delivery.
	ErrNotFound = errors.New("not found")
	// ErrLeaseLost: a settle came with a token that is no longer the current one. Nothing was changed.
	// A settle that was done and is applied again changes nothing either; a store may know it and not call it an error.
	ErrLeaseLost = errors.New("lease lost")
	// ErrStoreFull: the store refuses new events, for lack of room, but still accepts settles.
	ErrStoreFull = errors.New("store full")
	// ErrStoreLocked: somebody else has the store open.
	ErrStoreLocked = errors.New("store locked")
	// ErrStoreHeld: it is this process that has it open, for the config before a reload. It wraps ErrStoreLocked.
	ErrStoreHeld = fmt.Errorf("this process has it open already: %w", ErrStoreLocked)
	// ErrStoreUnfit: the store was written with other settings than it is to be used with. It stays so until one is changed.
	ErrStoreUnfit = errors.New("store unfit")
	// ErrClosed: the store or the engine has been closed.
	ErrClosed = errors.New("closed")
	// ErrBadCursor: a cursor that this store did not hand out.
	ErrBadCursor = errors.New("bad cursor")
	// ErrRefused: the store refuses an accept for what it is, and would refuse it again.
	ErrRefused = errors.New("refused by the store")
	// ErrUnkept: a callback that conflicts with an event cannot be kept as a variant of it.
	ErrUnkept = errors.New("the event has as many variants as are kept, or is past its retention")
	// ErrReplayed: a proof came with another body than that which it came with first, and says nothing about bodies.
	ErrReplayed = errors.New("the signature has been used for another body, and does not cover the body")
	// ErrUnavailable: the store cannot be reached, or refuses writes for now. What was to be written may have been
	// written all the same.
	ErrUnavailable = errors.New("store unavailable")
)

// Store keeps events and their deliveries. An implementation must pass the suite in internal/storetest.
//
// The store's clock decides everything about time: durations go in and come out, never times of a host's clock.
// It never jumps: a store whose clock may be stepped (a host's wall clock) must make sure that a step purges nothing
// and forgets nothing.
//
// All methods may be called concurrently. None but Close waits longer than its context, for others or for an answer over a
// network. What a store has begun to write to a local disk it ends all the same.
type Store interface {
	TaskStore

	// Apply makes a batch durable in one step: first its settles, then its accepts, then its leases, so that
	// a lease sees what the batch settled and accepted. The outcome of each operation is set in the operation itself.
	// Operations that were not done have Err set. After a failure whose outcome is unknown (a timeout) the same
	// accepts may be applied again, with the same event ids, and end in one event each, for as long as the event or the
	// record of its key is there.
	Apply(ctx context.Context, b *Batch)

	// Counts returns the deliveries of every destination that has any, or ever had. It answers from memory and never waits.
	Counts() []Count

	// Events lists events by Seq, the newest first. A page may be short, even empty, and still have a next cursor; the last page has none.
	Events(ctx context.Context, f EventFilter) (events []EventRecord, next string, err error)
	// Event returns one event with its deliveries, every attempt and its variants. ErrNotFound if there is none of this id.
	Event(ctx context.Context, id string) (*EventRecord, error)
	// DeadLetters lists deliveries given up, newest event first within a source, and those of an event by destination.
	DeadLetters(ctx context.Context, s Selection, limit int, cursor string) (letters []DeadLetter, next string, err error)

	// Replay makes settled deliveries (delivered or dead) of an event pending anew, with a fresh retry budget and the
	// next replay number. It skips what is not settled. variant 0 is the first body, n the n-th variant's. The destinations
	// are distinct; one that had no delivery of the event gets one, which keeps no order.
	// ErrNotFound without such an event or variant.
	Replay(ctx context.Context, id string, destinations []string, variant int) (replayed, skipped int, err error)
	// ReplayAll replays, as Replay does and with the first body, up to MaxTouched deliveries of events of one source, each
	// due as p says by its place among them. It skips what is not settled, what was replayed since it was asked for, and
	// events that are gone.
	ReplayAll(ctx context.Context, source string, deliveries []DeliveryName, p Pace) (replayed, skipped int, err error)
	// Redrive replays up to MaxTouched dead letters of the selection, oldest event of a source first, each due as p says by
	// its place in this call, and with the body that it was to send, a variant's too. It leaves alone what was replayed since
	// it was asked for. It begins after a cursor, so that what dies again meanwhile is not found again; an empty next means
	// that there are no more.
	Redrive(ctx context.Context, s Selection, p Pace, cursor string) (n int, next string, err error)
	// Reassign hands deliveries of a destination, settled ones too, to another one of its source: up to MaxTouched in a call,
	// oldest event first, with their attempts and in the order of their tasks. It leaves what is leased, what waits behind
	// that in the order of its task, and what the other destination has a delivery of. It begins after a cursor; an empty
	// next means that there are no more.
	Reassign(ctx context.Context, source, from, to, cursor string) (r Reassigned, next string, err error)
	// Discard deletes up to MaxTouched dead letters of the selection (with s.Orphaned also pending ones, and those whose
	// lease has expired). It begins after a cursor; an empty next means that there are no more. What is left keeps its order.
	Discard(ctx context.Context, s Selection, cursor string) (n int, next string, err error)
	// Pause holds or releases a destination, lastingly.
	Pause(ctx context.Context, source, destination string, paused bool) error
	// Expire makes up to MaxTouched pending deliveries of a destination that were accepted, or last replayed, longer ago than
	// age dead letters with the error ErrExpired's text, whether or not they are due, and returns them. Fewer than MaxTouched
	// mean that there are no more. What is leased is left to its holder, until the lease has expired.
	Expire(ctx context.Context, source, destination string, age time.Duration) ([]DeadLetter, error)
	// Purge deletes what is past its retention: events whose deliveries are all settled, counted from the last settle,
	// and the dedupe records of events that are gone past their source's window, counted from the first acceptance; those of
	// others may stay. Tasks that are not expected any more go after Retention, too, counted from their end. It goes by the policy of this call, for what earlier ones have let stay too. What is pending or leased never goes. It touches at most MaxTouched
	// deliveries and reports whether there is more to do now.
	Purge(ctx context.Context, p PurgePolicy) (PurgeResult, error)

	// PerSource reports whether each source is written by itself, so that a source that hangs holds up no other. Sequences are
	// then microseconds of the store's clock, or a little ahead of it: so those of several compare as well as the clocks of the
	// store's hosts agree.
	PerSource() bool

	// Health returns what is wrong with the store, or nil. It may wait for as long as its context allows.
	Health(ctx context.Context) error
	// Info describes the store for status: driver, path or addresses without credentials, free bytes. It never waits.
	Info() StoreInfo

	// Close waits for calls under way and closes the store, once. Where leases belong to the process, those that are still
	// held become void; tokens of before the close stay refused after it. Whatever can fail returns ErrClosed from then on.
	Close() error
}

// ErrExpired is the error of a delivery that was not delivered within its destination's `expire`.
var ErrExpired = errors.New("expired before it could be delivered")

// SharedStore is implemented by stores that several gateways share.
type SharedStore interface {
	Store
	// Wakeups names destinations of which something may be due, or which may be paused no longer: another gateway has
	// sent a message, or the store has looked. A message may be missing; the store looks often enough.
	Wakeups() <-chan DestinationName
	// Announce sends the other gateways a hash of this one's sources.
	Announce(config string)
	// Nodes lists the gateways that live. It answers from memory.
	Nodes() []NodeStatus
	// LiveNodes lists the gateways that live, with what each of them has announced by now, this one too.
	LiveNodes(ctx context.Context) ([]NodeStatus, error)
}

// ClockedStore is implemented by stores whose clock is another host's.
type ClockedStore interface {
	Store
	// Clock returns the time of the store's host, for people to compare. No decision rests on it.
	Clock(ctx context.Context) (time.Time, error)
}
