package spooling

import (
	"context"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	// handoverBelow is how few entries of a source may be left for new callbacks to wait for the last of them, rather than
	// to line up behind: else a source that is never silent would go through its spool for ever.
	handoverBelow = 256
	drainBatch    = 128
	drainPause    = 250 * time.Millisecond
	drainLongest  = 2 * time.Second
)

// Spooler stores callbacks that the store cannot accept, and hands them over in order once it can.
type Spooler struct {
	params Params
	spool  relay.Spool
	health health
	signal chan struct{} // capacity 1: something waits to be appended
	stop   <-chan struct{}
	loops  *sync.WaitGroup

	mu      sync.Mutex
	queue   []*spooling
	sources map[string]*spoolSource
	doubts  map[string]*commit.Accepting // first tries whose outcome was not known in time, by event id
	closed  bool
}

// spoolSource is the state of one source.
type spoolSource struct {
	waiting  int           // entries, with those that are about to be appended
	down     bool          // the store did not accept the last callback
	told     bool          // it is logged that callbacks go to the spool
	draining bool          // a goroutine drains it
	handover chan struct{} // closed when new callbacks need wait no longer; nil where they need not wait at all
	news     chan struct{} // capacity 1: an entry was appended
}

// spooling is an accept, or the registration of a task, on its way into the spool.
type spooling struct {
	accept *relay.Accept
	task   *relay.Expectation // in place of an accept
	done   chan struct{}
	err    error
}

func (op *spooling) source() string {
	if op.task != nil {
		return op.task.Source
	}
	return op.accept.Event.Source
}

func newSpooler(p Params, spool relay.Spool, stop <-chan struct{}, loops *sync.WaitGroup) (*Spooler, error) {
	s := &Spooler{
		params: p, spool: spool, health: health{spool: spool, logger: p.Logger}, stop: stop, loops: loops, signal: make(chan struct{}, 1),
		sources: map[string]*spoolSource{}, doubts: map[string]*commit.Accepting{},
	}
	waiting, err := spool.Waiting()
	if err != nil {
		return nil, err
	}
	for source, n := range waiting {
		s.of(source).waiting = n
	}
	return s, nil
}

// of returns what is known of a source. The caller holds s.mu, or is the only one.
func (s *Spooler) of(source string) *spoolSource {
	st := s.sources[source]
	if st == nil {
		st = &spoolSource{news: make(chan struct{}, 1)}
		s.sources[source] = st
	}
	return st
}

// Follows reports whether a callback of the source must go through the spool: because earlier ones are there, or because the
// store is down. It waits until by for a drain that is nearly done. Where it is true, an entry is counted, and must be
// taken.
func (s *Spooler) Follows(ctx context.Context, source string, by time.Time) bool {
	for {
		s.mu.Lock()
		st := s.of(source)
		if st.waiting == 0 && !st.down {
			s.mu.Unlock()
			return false
		}
		handover := st.handover
		if handover == nil || !time.Now().Before(by) {
			st.waiting++
			s.mu.Unlock()
			return true
		}
		s.mu.Unlock()
		ctx, cancel := context.WithDeadline(ctx, by)
		select {
		case <-handover:
		case <-ctx.Done():
		}
		cancel()
	}
}

// Divert notes that the store did not accept an event in time, and counts an entry, which must be taken. The accept may still
// be under way, and may be stored after all.
func (s *Spooler) Divert(first *commit.Accepting) {
	s.mu.Lock()
	s.doubts[first.Event.ID] = first
	s.mu.Unlock()
	s.DivertTask(first.Event.Source)
}

// DivertTask notes that the store did not register a task in time, and counts an entry, which must be taken.
func (s *Spooler) DivertTask(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of(source)
	st.down = true
	st.waiting++
}

// settleDoubt reports whether the leases that the first try of an accept may have carried have no holder: that try has
// failed, or was an earlier process's, or there was none. It waits for a try that is still under way until the engine stops.
func (s *Spooler) settleDoubt(id string) (unheld bool) {
	s.mu.Lock()
	first := s.doubts[id]
	s.mu.Unlock()
	if first == nil {
		return true
	}
	select {
	case <-first.Done:
		return first.Err != nil
	case <-s.stop:
		return false
	}
}

// forget deletes what is known of an entry that is no longer in the spool, or will not be tried again.
func (s *Spooler) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.doubts, id)
}

// Take appends an accept to the spool, durably, and waits for that until ctx ends. The entry has been counted.
func (s *Spooler) Take(ctx context.Context, a *relay.Accept) error {
	return s.take(ctx, &spooling{accept: a, done: make(chan struct{})})
}

// TakeTask appends the registration of a task to the spool, as Take does an accept.
func (s *Spooler) TakeTask(ctx context.Context, e *relay.Expectation) error {
	return s.take(ctx, &spooling{task: e, done: make(chan struct{})})
}

func (s *Spooler) take(ctx context.Context, op *spooling) error {
	s.mu.Lock()
	if s.closed {
		s.of(op.source()).waiting--
		s.mu.Unlock()
		return relay.ErrClosed
	}
	s.queue = append(s.queue, op)
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// appendLoop appends what waits, together, until the engine stops. It looks after a spool that fails, too, since nobody else
// waits where a write hangs.
func (s *Spooler) appendLoop() {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-s.signal:
		case <-look.C:
			s.health.look()
			continue
		case <-s.stop:
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			s.appendAll() // what came before the stop
			return
		}
		s.appendAll()
	}
}

func (s *Spooler) appendAll() {
	s.mu.Lock()
	queue := s.queue
	s.queue = nil
	s.mu.Unlock()
	if len(queue) == 0 {
		return
	}
	var accepts []*relay.Accept
	for _, op := range queue {
		if op.accept != nil {
			accepts = append(accepts, op.accept)
		}
	}
	add := func(accepts ...*relay.Accept) error {
		return s.health.written(guard.Step(func() error { return s.spool.Append(accepts) }))
	}
	var err error
	if len(accepts) > 0 {
		err = add(accepts...)
	}
	for _, op := range queue {
		switch {
		case op.task != nil:
			op.err = s.health.written(guard.Step(func() error { return s.spool.AppendTask(op.task) }))
		case err != nil && len(accepts) > 1:
			op.err = add(op.accept) // one that is too large must not make the others fail
		default:
			op.err = err
		}
		close(op.done)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range queue {
		st := s.of(op.source())
		switch {
		case op.err != nil:
			st.waiting--
			if op.accept != nil {
				delete(s.doubts, op.accept.Event.ID)
			}
		case st.down && !st.told:
			st.told = true
			s.params.Logger().Warn("store does not accept callbacks; they go to the spool", "source", op.source())
		}
		// Even after a failure: the drain finds out whether the store is up again.
		s.drainSoon(op.source(), st)
	}
}

// drainSoon starts a drain of a source unless one is under way. The caller holds s.mu.
func (s *Spooler) drainSoon(source string, st *spoolSource) {
	select {
	case st.news <- struct{}{}:
	default:
	}
	if !st.draining && !s.closed {
		st.draining = true
		s.loops.Go(func() { s.drain(source, st) })
	}
}

// start begins to drain what an earlier process has left.
func (s *Spooler) start() {
	s.loops.Go(s.appendLoop)
	s.mu.Lock()
	defer s.mu.Unlock()
	for source, st := range s.sources {
		if st.waiting > 0 {
			s.drainSoon(source, st)
		}
	}
}
