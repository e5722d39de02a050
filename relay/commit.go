package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// committers are those of an engine: one for all sources, or one for each.
type committers struct {
	engine *Engine

	mu       sync.Mutex
	bySource map[string]*committer
	store    Store // nil before it is open, and after the stop
	stopped  bool
}

func newCommitters(e *Engine) *committers {
	return &committers{engine: e, bySource: map[string]*committer{}}
}

// of gives the committer of a source.
func (cs *committers) of(source string) *committer {
	if !cs.engine.options.PerSource {
		source = ""
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.bySource[source]
	if c == nil {
		c = newCommitter(cs.engine)
		c.closed = cs.stopped
		cs.bySource[source] = c
		cs.begin(c)
	}
	return c
}

// run lets them write to the store, those too that are still to come.
func (cs *committers) run(store Store) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.store = store
	for _, c := range cs.bySource {
		cs.begin(c)
	}
}

// begin starts a committer, once the store is open. The caller holds mu.
func (cs *committers) begin(c *committer) {
	if store := cs.store; store != nil {
		cs.engine.loops.Go(func() { c.run(store) })
	}
}

// well says that the store did what it was last asked for, by each of them.
func (cs *committers) well() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.bySource {
		if !c.well.Load() {
			return false
		}
	}
	return true
}

// recovered says that whatever failed for them would succeed now.
func (cs *committers) recovered() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.bySource {
		c.well.Store(true)
	}
}

// stop lets no more of them begin.
func (cs *committers) stop() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.store, cs.stopped = nil, true
}

// committer writes what waits, in one durable step after the other: callbacks that arrive while one step is under way
// share the next. There is no lingering for more.
type committer struct {
	engine *Engine
	signal chan struct{} // capacity 1: something waits
	well   atomic.Bool   // the last use of the store succeeded

	mu      sync.Mutex
	accepts []*accepting
	settles []*settling
	late    []*settling        // settles that could not be written, until their next try
	hungry  map[*lane]struct{} // lanes that may want a lease
	closed  bool
}

// accepting is an accept with those who wait for it.
type accepting struct {
	Accept
	lanes   []*lane // per delivery; nil where none was configured
	done    chan struct{}
	spooled bool // it is durable in the spool, and not yet in the store
}

// settling is a settle with the slot that it frees.
type settling struct {
	Settle
	lane *lane
	late bool // it could not be written once: its slot is not free before it is
}

// settleRetry is how long a settle that could not be written waits for its next try. Its slot stays taken.
const settleRetry = time.Second

func newCommitter(e *Engine) *committer {
	c := &committer{engine: e, signal: make(chan struct{}, 1), hungry: map[*lane]struct{}{}}
	c.well.Store(true)
	return c
}

// accept queues a. It is false when the engine is closed.
func (c *committer) accept(a *accepting) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.accepts = append(c.accepts, a)
	c.wake()
	return true
}

// withdraw takes an accept that nobody waits for any more out of the queue, unless it is being applied already: while
// the store hangs, the queue must not grow with callbacks that were answered 503.
func (c *committer) withdraw(a *accepting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.accepts, a); i >= 0 {
		c.accepts = slices.Delete(slices.Clone(c.accepts), i, i+1) // a batch may hold the same array
	}
}

func (c *committer) settle(s *settling) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settles = append(c.settles, s)
	c.wake()
}

// feed asks a lane what it wants to lease, at the next step.
func (c *committer) feed(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hungry[l] = struct{}{}
	c.wake()
}

// retryLate puts what could not be written into the queue again.
func (c *committer) retryLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settles, c.late = append(c.settles, c.late...), nil
	c.wake()
}

func (c *committer) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

func (c *committer) run(store Store) {
	for {
		for c.step(store) {
		}
		select {
		case <-c.signal:
		case <-c.engine.stop:
			c.mu.Lock()
			c.closed = true
			c.mu.Unlock()
			c.retryLate()
			for c.step(store) { // what came before the stop
			}
			return
		}
	}
}

// step applies one batch. It is false when nothing waited.
func (c *committer) step(store Store) bool {
	accepts, settles, hungry := c.take()
	batch := Batch{}
	credit := make(map[*lane]int, len(hungry))
	for _, l := range hungry {
		credit[l] = 0
	}
	for _, s := range settles {
		batch.Settles = append(batch.Settles, &s.Settle)
		if s.lane != nil && !s.late {
			credit[s.lane]++
		}
	}
	// While the store's answers get lost, so would the leases that they bring.
	lease := c.well.Load()
	for _, a := range accepts {
		for i, l := range a.lanes {
			if l == nil || !lease {
				continue
			}
			a.Deliveries[i].LeaseFor = l.reserve()
		}
		batch.Accepts = append(batch.Accepts, &a.Accept)
	}
	var leasing []*lane
	for l, n := range credit {
		if lease := l.want(n); lease != nil {
			leasing = append(leasing, l)
			batch.Leases = append(batch.Leases, lease)
		}
	}
	if len(batch.Settles)+len(batch.Accepts)+len(batch.Leases) == 0 {
		return false
	}

	before := time.Now()
	store.Apply(context.Background(), &batch)
	err := batchError(&batch)
	c.well.Store(err == nil)
	c.engine.metrics.observeStore("apply", before, err)

	// A lease runs from before the step, so that its holder never believes it longer than the store does.
	for _, s := range settles {
		c.settled(s)
	}
	for _, a := range accepts {
		c.finish(a, before)
	}
	for i, l := range leasing {
		l.leased(batch.Leases[i], before)
	}
	return true
}

// maxStep bounds the bodies of one step, in bytes: it must be over in the store's time.
const maxStep = 8 << 20

// take removes what the next step writes: at most MaxTouched deliveries, settles first, since they free slots.
func (c *committer) take() (accepts []*accepting, settles []*settling, hungry []*lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.settles), MaxTouched/2)
	settles, c.settles = cut(c.settles, n)
	touched, size, m := n, 0, 0
	for m < len(c.accepts) {
		touched += max(1, len(c.accepts[m].Deliveries))
		size += len(c.accepts[m].Event.Body)
		if (touched > MaxTouched || size > maxStep) && m > 0 {
			break
		}
		m++
	}
	accepts, c.accepts = cut(c.accepts, m)
	for l := range c.hungry {
		hungry = append(hungry, l)
	}
	clear(c.hungry)
	return accepts, settles, hungry
}

// cut takes the first n of a queue, and gives its array away when nothing is left in it.
func cut[T any](queue []T, n int) (head, rest []T) {
	if n == len(queue) {
		return queue, nil
	}
	return queue[:n:n], queue[n:]
}

// settled frees the slot of a settle that is durable, and tries again what is not.
func (c *committer) settled(s *settling) {
	if s.Err != nil && !errors.Is(s.Err, ErrLeaseLost) && !errors.Is(s.Err, ErrNotFound) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return // the lease ends with its time, and the attempt is made again
		}
		c.engine.logger().Error("outcome of an attempt cannot be stored yet",
			"event_id", s.Leased.Event.ID, "destination", s.Leased.Destination, "error", s.Err)
		s.Err, s.late = nil, true
		if c.late = append(c.late, s); len(c.late) == 1 {
			time.AfterFunc(settleRetry, c.retryLate)
		}
		return
	}
	if s.lane != nil {
		s.lane.settled(s)
	}
}

// finish hands leased deliveries to their lanes and wakes those who wait.
func (c *committer) finish(a *accepting, before time.Time) {
	for i, l := range a.lanes {
		if l == nil {
			// One that is configured since then has looked for deliveries before this one was there.
			if l = c.engine.lane(a.Event.Source, a.Deliveries[i].Destination); l != nil {
				l.wake()
			}
			continue
		}
		reserved := a.Deliveries[i].LeaseFor > 0
		var leased *Leased
		for _, d := range a.Leased {
			if d.Destination == a.Deliveries[i].Destination {
				leased = d
			}
		}
		l.accepted(reserved, leased, a.Err == nil && a.Result == Accepted, before)
	}
	close(a.done)
}

func batchError(b *Batch) error {
	for _, s := range b.Settles {
		if s.Err != nil && !errors.Is(s.Err, ErrLeaseLost) {
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
