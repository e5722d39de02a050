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

	noted bool // by Params.Stored
	told  int  // how many of the lanes know the outcome
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

// crowded reports whether a step was of a crowd. A shared store has none: what a step costs there goes by what is in it.
func crowded(store relay.Store, accepts, settles int) bool {
	return !store.PerSource() && (accepts >= crowdedAccepts || accepts+settles >= crowdedAll)
}

// guarded runs a step, reports whether anything waited, and lets a panic end neither the process nor the committer (12).
// Whatever the step had to do with learns an outcome: a slot or a lease that nobody ends would be taken for ever.
func (c *Committer) guarded(store relay.Store) (more bool) {
	var s step
	start := time.Now()
	err := guard.Step(func() error {
		more = c.step(store, &s)
		return nil
	})
	for err != nil {
		more = true
		c.params.Meter.ObserveStore("apply", start, err)
		c.params.Logger().Error("committer failed; what it was to write is tried again or answered with 503",
			"error", err, "stack", guard.Stack(err))
		c.giveUp(&s, err)
		err = guard.Step(func() error {
			c.conclude(&s)
			return nil
		})
	}
	return more
}

// giveUp ends a step that panicked, unless that was after it had been applied. Lanes that were not asked are asked at the next.
func (c *Committer) giveUp(s *step, err error) {
	c.healthy.Store(false)
	if s.applied {
		return
	}
	s.applied = true
	fail(&s.batch, fmt.Errorf("%w: %w", relay.ErrUnavailable, err))
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range s.asking {
		c.hungry[l] = struct{}{}
	}
}

// step holds what a durable step writes, and who has not learned its outcome yet.
type step struct {
	batch   relay.Batch
	settles []*Settling
	accepts []*Accepting
	leasing []Lane       // to whom the leases of the batch belong
	asking  map[Lane]int // who is to be asked for a lease, with the slots that the step frees
	before  time.Time
	applied bool
}

// step applies one batch and reports whether anything waited.
func (c *Committer) step(store relay.Store, s *step) bool {
	// Whoever is ready to run may have an accept or a settle to bring along: the more of them in a step, the less each costs.
	runtime.Gosched()
	c.take(s)
	for _, settle := range s.settles {
		s.batch.Settles = append(s.batch.Settles, &settle.Settle)
		if settle.Lane != nil && !settle.late {
			s.asking[settle.Lane]++
		}
	}
	for _, a := range s.accepts {
		s.batch.Accepts = append(s.batch.Accepts, &a.Accept)
	}
	// While the store's answers get lost, so would the leases that they bring.
	if c.healthy.Load() {
		for _, a := range s.accepts {
			for i, l := range a.Lanes {
				if l != nil {
					a.Deliveries[i].LeaseFor = l.Reserve(s.asking[l])
				}
			}
		}
	}
	for l, n := range s.asking {
		delete(s.asking, l)
		if lease := l.Want(n); lease != nil {
			s.leasing = append(s.leasing, l)
			s.batch.Leases = append(s.batch.Leases, lease)
		}
	}
	accepts, settles := len(s.accepts), len(s.settles)
	if accepts+settles+len(s.leasing) == 0 {
		return false
	}

	s.before = time.Now()
	Apply(store, &s.batch)
	s.applied = true
	c.rest = 0
	if crowded(store, accepts, settles) {
		c.rest = min(time.Since(s.before), longestRest)
	}
	err := Failure(&s.batch)
	c.healthy.Store(err == nil)
	c.params.Meter.ObserveStore("apply", s.before, err)
	c.conclude(s)
	return true
}

// conclude passes on the outcome of a step, and after a panic goes on behind what panicked. A lease runs from before the step,
// so that its holder never believes it longer than the store does.
func (c *Committer) conclude(s *step) {
	for len(s.settles) > 0 {
		settle := s.settles[0]
		c.wakeFreed(settle)
		s.settles = s.settles[1:]
		c.settled(settle)
	}
	for len(s.accepts) > 0 {
		a := s.accepts[0]
		c.handOver(a, s.before)
		s.accepts = s.accepts[1:]
		close(a.Done)
	}
	c.applied()
	for len(s.leasing) > 0 {
		l, lease := s.leasing[0], s.batch.Leases[0]
		s.leasing, s.batch.Leases = s.leasing[1:], s.batch.Leases[1:]
		l.Leased(lease, s.before)
	}
}

func (c *Committer) applied() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.applying = nil
}

// maxStep bounds the bodies of one step, in bytes: it must be over in the store's time.
const maxStep = 8 << 20

// take removes what the next step writes: at most relay.MaxTouched deliveries, settles first, since they free slots.
func (c *Committer) take(s *step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.settles), relay.MaxTouched/2)
	s.settles, c.settles = cut(c.settles, n)
	touched, size, m := n, 0, 0
	for m < len(c.accepts) {
		touched += max(1, len(c.accepts[m].Deliveries))
		size += len(c.accepts[m].Event.Body)
		if (touched > relay.MaxTouched || size > maxStep) && m > 0 {
			break
		}
		m++
	}
	s.accepts, c.accepts = cut(c.accepts, m)
	c.applying = s.accepts
	s.asking = make(map[Lane]int, len(c.hungry))
	for l := range c.hungry {
		s.asking[l] = 0
	}
	clear(c.hungry)
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
}

// wakeFreed wakes the lanes of deliveries that had to wait for the one of a settle.
func (c *Committer) wakeFreed(s *Settling) {
	for s.Err == nil && len(s.Freed) > 0 {
		name := relay.DestinationName{Source: s.Leased.Event.Source, Destination: s.Freed[0]}
		s.Freed = s.Freed[1:]
		if l := c.lanes.Lane(name); l != nil {
			l.Wake()
		}
	}
}

// handOver passes the outcome of an accept to the engine and to the lanes of its deliveries.
func (c *Committer) handOver(a *Accepting, before time.Time) {
	if !a.noted {
		a.noted = true
		c.params.Stored(&a.Accept)
	}
	for a.told < len(a.Lanes) {
		i := a.told
		a.told++
		l := a.Lanes[i]
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
}

// SetHealthy notes how the store was used by others.
func (c *Committer) SetHealthy(healthy bool) { c.healthy.Store(healthy) }
