package commit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Committer writes what waits, in one durable step after the other: callbacks that arrive while one step is under way
// share the next. There is no lingering for more, unless they crowd.
type Committer struct {
	params  Params
	lanes   Lanes
	signal  chan struct{} // capacity 1: something waits
	healthy atomic.Bool   // the last use of the store succeeded
	rest    time.Duration // before the next step, so that more can share it; of the goroutine that makes the steps

	unstored unstored

	mu       sync.Mutex
	accepts  []*Accepting
	applying []*Accepting // accepts of the step under way
	settles  []*Settling
	late     []*Settling       // settles that could not be written, until their next try
	hungry   map[Lane]struct{} // lanes that may want a lease
	closed   bool
}

// Accepting is an accept with those who wait for it.
type Accepting struct {
	relay.Accept
	Lanes []Lane        // per delivery; nil where none was configured
	Done  chan struct{} // closed when the outcome is set

	by   time.Time     // until when somebody waits
	late chan struct{} // closed when nobody needs to wait any more; the outcome is not known then
}

// Abandon ends an accept that no committer has, and returns err.
func (a *Accepting) Abandon(err error) error {
	a.Err = err
	close(a.Done)
	return err
}

// Settling is a settle with the slot that it frees.
type Settling struct {
	relay.Settle
	Lane Lane
	late bool // it could not be written once: its slot is not free before it is
}

const (
	// A step with so many callbacks, or so many callbacks and outcomes, is of a crowd: more come than steps of their own would
	// be worth, because each step costs a sync, and writes pages that the next one writes again.
	crowdedAccepts, crowdedAll = 16, 64
	// longestRest bounds the rest after such a step. A callback waits that much longer, where thousands come in a second.
	longestRest = 2 * time.Millisecond
)

// settleRetry is how long a settle that could not be written waits for its next try. Its slot stays taken.
const settleRetry = time.Second

func newCommitter(p Params, lanes Lanes) *Committer {
	c := &Committer{params: p, lanes: lanes, signal: make(chan struct{}, 1), unstored: unstored{logger: p.Logger}, hungry: map[Lane]struct{}{}}
	c.healthy.Store(true)
	return c
}

// Accept applies an accept and waits for that until by, or a moment longer. After context.DeadlineExceeded it may be
// stored all the same, unless Done is closed: then it was still in the queue, and is no longer. relay.ErrClosed means that
// nothing is taken any more.
func (c *Committer) Accept(a *Accepting, by time.Time) error {
	late := make(chan struct{})
	a.by, a.late = by, late
	if !c.enqueue(a) {
		return a.Abandon(relay.ErrClosed)
	}
	c.params.overdue.Watch()
	select {
	case <-a.Done:
		return a.Err
	case <-late:
		return context.DeadlineExceeded
	}
}

func (c *Committer) enqueue(a *Accepting) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.accepts = append(c.accepts, a)
	c.wake()
	return true
}

// dismiss ends the wait for accepts that are overdue, and reports whether others wait. It removes those that are still in
// the queue: while the store hangs, it must not grow with callbacks that were answered 503.
func (c *Committer) dismiss(now time.Time) (waiting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	overdue := func(a *Accepting) bool { return !now.Before(a.by) }
	if slices.ContainsFunc(c.accepts, overdue) {
		queue := c.accepts
		c.accepts = nil // a batch may hold the same array
		for _, a := range queue {
			if overdue(a) {
				_ = a.Abandon(context.DeadlineExceeded)
			} else {
				c.accepts = append(c.accepts, a)
			}
		}
	}
	for _, a := range c.applying {
		switch {
		case a.late == nil: // told already
		case overdue(a):
			close(a.late)
			a.late = nil
		default:
			waiting = true
		}
	}
	return waiting || len(c.accepts) > 0
}

// Settle queues a settle.
func (c *Committer) Settle(s *Settling) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settles = append(c.settles, s)
	c.wake()
}

// Feed asks a lane at the next step what it wants to lease.
func (c *Committer) Feed(l Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hungry[l] = struct{}{}
	c.wake()
}

// retryLate puts what could not be written into the queue again.
func (c *Committer) retryLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settles, c.late = append(c.settles, c.late...), nil
	c.wake()
}

func (c *Committer) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

func (c *Committer) run(store relay.Store, stop <-chan struct{}) {
	for {
		for c.guarded(store) {
			c.linger(stop)
		}
		select {
		case <-c.signal:
		case <-stop:
			c.mu.Lock()
			c.closed = true
			c.mu.Unlock()
			c.retryLate()
			for c.guarded(store) { // what came before the stop
			}
			return
		}
	}
}

// linger waits for as long as the last step took, if that was of a crowd. The processors have other work to do meanwhile, such
// as to read the callbacks that are to share the next step; where they have none, so many do not come in one step.
func (c *Committer) linger(stop <-chan struct{}) {
	if c.rest == 0 {
		return
	}
	runtime.Gosched() // those who were waiting answer first
	timer := time.NewTimer(c.rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
	}
}

// crowded reports whether a step was of a crowd. Where stores are shared, outcomes do not wait for others: what finds no free
// slot meanwhile is written apart there, which costs more than can be saved.
func crowded(store relay.Store, accepts, settles int) bool {
	if store.PerSource() && settles > 0 {
		return false
	}
	return accepts >= crowdedAccepts || accepts+settles >= crowdedAll
}

// guarded makes a step of which a panic ends neither the process nor the committer (12).
func (c *Committer) guarded(store relay.Store) (more bool) {
	start := time.Now()
	err := guard.Step(func() error {
		more = c.step(store)
		return nil
	})
	if err != nil {
		c.healthy.Store(false)
		c.fail(fmt.Errorf("%w: %w", relay.ErrUnavailable, err))
		c.params.Meter.ObserveStore("apply", start, err)
		c.params.Logger().Error("committer failed; what it was to write is tried again or answered with 503",
			"error", err, "stack", guard.Stack(err))
	}
	return more
}

// fail ends the wait for the accepts of a step that did not come to its end.
func (c *Committer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.applying {
		select {
		case <-a.Done:
		default:
			_ = a.Abandon(err)
		}
	}
	c.applying = nil
}

// step applies one batch and reports whether anything waited.
func (c *Committer) step(store relay.Store) bool {
	// Whoever is ready to run may have an accept or a settle to bring along: the more of them in a step, the less each costs.
	runtime.Gosched()
	accepts, settles, hungry := c.take()
	batch := relay.Batch{}
	credit := make(map[Lane]int, len(hungry))
	for _, l := range hungry {
		credit[l] = 0
	}
	for _, s := range settles {
		batch.Settles = append(batch.Settles, &s.Settle)
		if s.Lane != nil && !s.late {
			credit[s.Lane]++
		}
	}
	// While the store's answers get lost, so would the leases that they bring.
	lease := c.healthy.Load()
	for _, a := range accepts {
		for i, l := range a.Lanes {
			if l == nil || !lease {
				continue
			}
			a.Deliveries[i].LeaseFor = l.Reserve()
		}
		batch.Accepts = append(batch.Accepts, &a.Accept)
	}
	var leasing []Lane
	for l, n := range credit {
		if lease := l.Want(n); lease != nil {
			leasing = append(leasing, l)
			batch.Leases = append(batch.Leases, lease)
		}
	}
	if len(batch.Settles)+len(batch.Accepts)+len(batch.Leases) == 0 {
		return false
	}

	before := time.Now()
	Apply(store, &batch)
	c.rest = 0
	if crowded(store, len(accepts), len(settles)) {
		c.rest = min(time.Since(before), longestRest)
	}
	err := Failure(&batch)
	c.healthy.Store(err == nil)
	c.params.Meter.ObserveStore("apply", before, err)

	// A lease runs from before the step, so that its holder never believes it longer than the store does.
	for _, s := range settles {
		c.settled(s)
	}
	for _, a := range accepts {
		c.finish(a, before)
	}
	c.applied()
	for i, l := range leasing {
		l.Leased(batch.Leases[i], before)
	}
	return true
}

func (c *Committer) applied() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applying = nil
}

// Apply has the store apply a batch. A panic of the store is the error of every operation of the batch.
func Apply(store relay.Store, batch *relay.Batch) {
	err := guard.Step(func() error {
		store.Apply(context.Background(), batch)
		return nil
	})
	if err == nil {
		return
	}
	err = fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	for _, op := range batch.Settles {
		op.Err = err
	}
	for _, op := range batch.Accepts {
		op.Leased, op.Err = nil, err
	}
	for _, op := range batch.Leases {
		op.Leased, op.Err = nil, err
	}
}

// maxStep bounds the bodies of one step, in bytes: it must be over in the store's time.
const maxStep = 8 << 20

// take removes what the next step writes: at most relay.MaxTouched deliveries, settles first, since they free slots.
func (c *Committer) take() (accepts []*Accepting, settles []*Settling, hungry []Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.settles), relay.MaxTouched/2)
	settles, c.settles = cut(c.settles, n)
	touched, size, m := n, 0, 0
	for m < len(c.accepts) {
		touched += max(1, len(c.accepts[m].Deliveries))
		size += len(c.accepts[m].Event.Body)
		if (touched > relay.MaxTouched || size > maxStep) && m > 0 {
			break
		}
		m++
	}
	accepts, c.accepts = cut(c.accepts, m)
	c.applying = accepts
	for l := range c.hungry {
		hungry = append(hungry, l)
	}
	clear(c.hungry)
	return accepts, settles, hungry
}

// cut splits off the first n of a queue, and leaves its array to them when nothing else is in it.
func cut[T any](queue []T, n int) (head, rest []T) {
	if n == len(queue) {
		return queue, nil
	}
	return queue[:n:n], queue[n:]
}

// settled frees the slot of a settle that is durable, and tries again what is not.
func (c *Committer) settled(s *Settling) {
	if s.Err != nil && !errors.Is(s.Err, relay.ErrLeaseLost) && !errors.Is(s.Err, relay.ErrNotFound) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return // the lease ends with its time, and the attempt is made again
		}
		c.unstored.failed(&s.Settle, s.late)
		s.Err, s.late = nil, true
		if c.late = append(c.late, s); len(c.late) == 1 {
			time.AfterFunc(settleRetry, c.retryLate)
		}
		return
	}
	if s.late {
		c.unstored.stored(&s.Settle)
	}
	if s.Lane != nil {
		s.Lane.Settled(s)
	}
	for _, d := range s.Freed {
		if l := c.lanes.Lane(relay.DestinationName{Source: s.Leased.Event.Source, Destination: d}); l != nil {
			l.Wake()
		}
	}
}

// finish hands leased deliveries to their lanes and wakes those who wait.
func (c *Committer) finish(a *Accepting, before time.Time) {
	c.params.Stored(&a.Accept)
	for i, l := range a.Lanes {
		if l == nil {
			// One that is configured since then has looked for deliveries before this one was there.
			name := relay.DestinationName{Source: a.Event.Source, Destination: a.Deliveries[i].Destination}
			if l = c.lanes.Lane(name); l == nil {
				continue
			}
		}
		reserved := a.Deliveries[i].LeaseFor > 0
		var leased *relay.Leased
		for _, d := range a.Leased {
			if d.Destination == a.Deliveries[i].Destination {
				leased = d
			}
		}
		l.Accepted(reserved, leased, a.Err == nil && a.Result == relay.Accepted, before)
	}
	close(a.Done)
}

// Failure returns why a batch could not be done, nil if it was. A lease that was lost is no failure of the store.
func Failure(b *relay.Batch) error {
	for _, s := range b.Settles {
		if s.Err != nil && !errors.Is(s.Err, relay.ErrLeaseLost) {
			return s.Err
		}
	}
	for _, a := range b.Accepts {
		if a.Err != nil {
			return a.Err
		}
	}
	for _, l := range b.Leases {
		if l.Err != nil {
			return l.Err
		}
	}
	return nil
}

// Healthy reports whether the last use of the store succeeded.
func (c *Committer) Healthy() bool { return c.healthy.Load() }

// SetHealthy notes how the store was used by others.
func (c *Committer) SetHealthy(healthy bool) { c.healthy.Store(healthy) }
