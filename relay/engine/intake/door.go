package intake

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/lane"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/engine/report"
	"github.com/callbackrelay/caddy-relay/relay/engine/spooling"
)

const (
	maxWaiting = 4096 // accepts that wait for the store

	// answerShare is the part of ack_within that the store must leave to the answer, if that is no more than a tenth.
	answerShare = 250 * time.Millisecond
	// spoolShare is the part of ack_within that a callback which waits for the store leaves to the spool, half of it at most.
	spoolShare = 2 * time.Second
)

// errFull is the error where too many accepts wait already.
var errFull = errors.New("the gateway is full")

// DoorParams are the dependencies of a door.
type DoorParams struct {
	Access   *commit.Access
	Commit   *commit.Committers
	Lanes    *lane.Lanes
	Spooling *spooling.Spooling
	// StoreTimeout is how long an accept waits for the store before it goes to the spool.
	StoreTimeout time.Duration
	Meter        *meter.Metrics
	Report       *report.Reporter
}

// Door accepts events, whoever has them: the HTTP intake or an operator.
type Door struct {
	params    DoorParams
	waiting   atomic.Int64
	filtering chan struct{} // holds one for each event that filters look at
}

// NewDoor returns a door.
func NewDoor(p DoorParams) *Door {
	return &Door{params: p, filtering: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// Waiting returns how many accepts wait for the store.
func (d *Door) Waiting() int64 { return d.waiting.Load() }

// Outcome is the outcome of an event that was accepted.
type Outcome struct {
	Result    relay.Result
	EventID   string // of the event that has the dedupe key
	Spooled   bool   // it is durable in the spool, and not yet in the store
	Unmatched bool   // no destination wants it
	// ConflictWith is the id of the first event of the dedupe key, where this one was accepted beside it.
	ConflictWith string
}

// Name returns the outcome as metrics have it, one of relay.Results.
func (o Outcome) Name() string {
	switch {
	case o.Result == relay.Duplicate:
		return relay.ResultDuplicate
	case o.Result == relay.Conflict, o.ConflictWith != "":
		return relay.ResultConflict
	case o.Spooled:
		return relay.ResultSpooled
	case o.Unmatched:
		return relay.ResultUnmatched
	}
	return relay.ResultAccepted
}

// Accept makes an event and its deliveries durable, in the store, or in the spool where the store cannot take it, in what
// is left of the source's AckWithin since start. After an error the event may be stored all the same: the sender's next
// try is then a duplicate. It does not end with ctx: a sender who hangs up may have sent all the same.
func (d *Door) Accept(ctx context.Context, src *relay.Source, ev *relay.Event, start time.Time) (Outcome, error) {
	defer d.waiting.Add(-1)
	if d.waiting.Add(1) > maxWaiting {
		return Outcome{}, errFull
	}
	answerBy := start.Add(src.AckWithin - min(answerShare, src.AckWithin/10))
	ctx = context.WithoutCancel(ctx)
	deliveries, failed, err := d.route(ctx, src, ev, answerBy)
	if err != nil {
		return Outcome{}, err
	}
	a := &commit.Accepting{
		Accept: relay.Accept{
			Event: ev, Window: src.DedupeWindow, Separate: src.DeliverConflicts, ByKey: src.ByKey(), Ends: relay.EndingOf(src, ev), Deliveries: deliveries,
		},
		Lanes: d.params.Lanes.For(src.Name, deliveries), Done: make(chan struct{}),
	}
	spooled, err := d.accept(ctx, a, answerBy)
	if err != nil {
		return Outcome{}, err
	}
	if spooled || a.Result == relay.Accepted { // only then there is an event that is delivered
		for _, u := range failed {
			d.Unfiltered(src, u.destination, ev.ID, u.err)
		}
	}
	if spooled {
		return Outcome{Result: relay.Accepted, EventID: ev.ID, Spooled: true}, nil
	}
	return Outcome{Result: a.Result, EventID: a.FirstID, Unmatched: len(deliveries) == 0, ConflictWith: a.ConflictWith}, nil
}

// unfiltered is a destination that an event goes to because its filter could not be evaluated.
type unfiltered struct {
	destination string
	err         error
}

// Unfiltered logs and counts that a destination's filter could not be evaluated for an event, which it gets all the same: a
// filter must never lose a callback by mistake.
func (d *Door) Unfiltered(src *relay.Source, destination, eventID string, err error) {
	d.params.Meter.CountWhenError(relay.DestinationName{Source: src.Name, Destination: destination})
	d.params.Report.Logger(src.Logger).Warn("`when` cannot be evaluated; the event is delivered all the same",
		"source", src.Name, "destination", destination, "event_id", eventID, "error", err)
}

// route decides where an event goes, and returns which filters could not be evaluated. What is decided here is kept through
// every later try to store it (2). An error says that it was not the event's turn to be looked at by filters before by.
func (d *Door) route(ctx context.Context, src *relay.Source, ev *relay.Event, by time.Time) (deliveries []relay.NewDelivery, failed []unfiltered, _ error) {
	deliveries = make([]relay.NewDelivery, 0, len(src.Destinations))
	archive := archiveFor(src, ev)
	var view *relay.View
	for _, dst := range src.Destinations {
		if dst.Archiver != nil && dst != archive {
			continue
		}
		if dst.When != nil {
			if view == nil {
				if !d.filter(ctx, by) {
					return nil, nil, errFull
				}
				defer func() { <-d.filtering }()
				view = &relay.View{Event: ev, Format: src.Body}
			}
			match, err := dst.When.Match(view)
			if err != nil {
				failed = append(failed, unfiltered{dst.Name, err})
			} else if !match {
				continue
			}
		}
		deliveries = append(deliveries, relay.NewDelivery{Destination: dst.Name, Ordered: dst.OrderTask, Behind: Behind(dst, archive)})
	}
	return deliveries, failed, nil
}

// filter waits until it is the turn of another event to be looked at by filters, or reports false at by: what they decode
// of a body may need many times its memory.
func (d *Door) filter(ctx context.Context, by time.Time) bool {
	select {
	case d.filtering <- struct{}{}:
		return true
	default:
	}
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	select {
	case d.filtering <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// accept waits until an accept is durable or it is by, and reports whether it is the spool that has it. The usual accept
// needs no context or timer of its own.
func (d *Door) accept(ctx context.Context, a *commit.Accepting, by time.Time) (spooled bool, err error) {
	early := by.Add(-min(spoolShare, time.Until(by)/2))
	spool := d.params.Spooling.Spooler()
	if spool == nil {
		// Right after a start the spool is opened with the store, and is there once it is known that the store cannot be.
		_ = d.await(ctx, early)
		spool = d.params.Spooling.Spooler()
	}
	if spool == nil {
		return false, d.acceptInStore(ctx, a, by)
	}
	if !spool.Follows(ctx, a.Event.Source, early) {
		if patience := time.Now().Add(d.params.StoreTimeout); patience.Before(early) {
			early = patience
		}
		err := d.acceptInStore(ctx, a, early)
		if err == nil || !spooling.Spoolable(err) {
			return false, err
		}
		spool.Divert(a)
	}
	// The first accept may still be under way, and write to itself. Both are of one event id, and so end in one event.
	again := &relay.Accept{Event: a.Event, Window: a.Window, Separate: a.Separate, ByKey: a.ByKey, Ends: a.Ends, Deliveries: slices.Clone(a.Deliveries)}
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	return true, spool.Take(ctx, again)
}

// await waits until by for a store that is still being opened.
func (d *Door) await(ctx context.Context, by time.Time) error {
	if _, err := d.params.Access.Store(); err == nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	_, err := d.params.Access.Await(ctx)
	return err
}

// acceptInStore stores an event in the store, which may still be being opened, and waits for that until by.
func (d *Door) acceptInStore(ctx context.Context, a *commit.Accepting, by time.Time) error {
	if err := d.await(ctx, by); err != nil {
		return a.Abandon(err)
	}
	return d.params.Commit.Of(a.Event.Source).Accept(a, by)
}
