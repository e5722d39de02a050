package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// errFull says that too many accepts wait already.
var errFull = errors.New("the gateway is full")

// ids makes event ids that ascend within this process, so that the store appends rather than inserts.
var ids = struct {
	sync.Mutex
	entropy *ulid.MonotonicEntropy
}{entropy: ulid.Monotonic(rand.Reader, 0)}

func newID(now time.Time) string {
	ids.Lock()
	defer ids.Unlock()
	return ulid.MustNew(ulid.Timestamp(now), ids.entropy).String()
}

// newAccept decides where an event goes. What is decided here (id, key, `when`) is kept through every later try. An error
// says that ctx has ended before it was the event's turn to be looked at by filters.
func (e *Engine) newAccept(ctx context.Context, src *Source, ev *Event) (*accepting, error) {
	a := &accepting{done: make(chan struct{})}
	a.Event, a.Window = ev, src.DedupeWindow
	a.Deliveries = make([]NewDelivery, 0, len(src.Destinations))
	var input *WhenInput
	for _, dst := range src.Destinations {
		if dst.When != nil {
			if input == nil {
				// What a filter makes of a body may take many times its memory.
				select {
				case e.filtering <- struct{}{}:
					defer func() { <-e.filtering }()
				case <-ctx.Done():
					return nil, errFull
				}
				input = NewWhenInput(ev)
			}
			match, err := dst.When.Match(input)
			if err != nil {
				// A filter must never lose a callback by mistake.
				e.metrics.lane(DestinationName{src.Name, dst.Name}).whenErrors.Inc()
				src.Logger.Warn("`when` cannot be evaluated; the event is delivered all the same",
					"source", src.Name, "destination", dst.Name, "event_id", ev.ID, "error", err)
			} else if !match {
				continue
			}
		}
		a.Deliveries = append(a.Deliveries, NewDelivery{Destination: dst.Name, Ordered: dst.OrderTask})
	}
	a.lanes = e.lanesOf(src.Name, a.Deliveries)
	return a, nil
}

func (e *Engine) lanesOf(source string, deliveries []NewDelivery) []*lane {
	lanes := make([]*lane, len(deliveries))
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, d := range deliveries {
		lanes[i] = e.lanes[DestinationName{source, d.Destination}]
	}
	return lanes
}

// accept stores an event with its deliveries, durably: in the store, or in the spool where the store cannot take it. It
// waits for that until ctx ends, and gives the accept that was done. After an error the event may be stored all the
// same: the sender's next try is then a duplicate.
func (e *Engine) accept(ctx context.Context, a *accepting) (*accepting, error) {
	s := e.spooler.Load()
	if s == nil {
		return a, e.acceptInStore(ctx, a)
	}
	early, cancel := leaving(ctx, spoolShare)
	defer cancel()
	if !s.follows(early, a.Event.Source) {
		bounded, cancel := context.WithTimeout(early, e.options.StoreTimeout)
		defer cancel()
		err := e.acceptInStore(bounded, a)
		if err == nil || !spoolable(err) {
			return a, err
		}
		s.divert(a.Event.Source)
	}
	// The first accept may still be under way, and write to itself. Both are of one event id, and so end in one event.
	b := &accepting{spooled: true}
	b.Event, b.Window, b.Deliveries = a.Event, a.Window, a.Deliveries
	b.Result, b.FirstID = Accepted, a.Event.ID
	return b, s.take(ctx, &b.Accept)
}

// leaving bounds a context so that d is left of it, or half of it where that is less.
func leaving(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	by, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, by.Add(-min(d, time.Until(by)/2)))
}

// acceptInStore stores an event in the store, and waits for that until ctx ends.
func (e *Engine) acceptInStore(ctx context.Context, a *accepting) error {
	if _, err := e.Store(); err != nil {
		if errors.Is(err, ErrClosed) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	c := e.committers.of(a.Event.Source)
	if !c.accept(a) {
		return ErrClosed
	}
	select {
	case <-a.done:
		return a.Err
	case <-ctx.Done():
		c.withdraw(a)
		return ctx.Err()
	}
}
