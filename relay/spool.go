package relay

import (
	"context"
	"errors"
	"sync"
	"time"
)

// MaxRefused is how often a store may refuse an accept that it could have taken before the accept is set aside.
const MaxRefused = 10

const (
	// spoolShare is what a callback that waits for the store leaves of ack_within to the spool, if that is no more than half.
	spoolShare = 2 * time.Second
	// handoverBelow is how few entries of a source may be left for new callbacks to wait for the last of them, rather than
	// to line up behind: else a source that is never silent would go through its spool for ever.
	handoverBelow = 256
	drainBatch    = 128
	drainPause    = 250 * time.Millisecond
	drainLongest  = 2 * time.Second
)

// Spool keeps accepts of this node, durably, while the store cannot take them.
type Spool interface {
	// Append makes accepts durable, all or none. ErrStoreFull (wrapped) says that it holds as much as it may.
	Append(accepts []*Accept) error
	// Next gives up to n entries of a source, in the order in which they came, but none that is stuck. One that cannot be
	// read has an error and no accept.
	Next(source string, n int) ([]*Spooled, error)
	// Remove deletes entries.
	Remove(items []*Spooled) error
	// Refuse counts that the store has refused an entry, and says whether that was once too often: then it is stuck. One
	// that cannot be read is stuck at once.
	Refuse(item *Spooled, reason string) (stuck bool, err error)
	// Waiting counts the entries of each source, without what is stuck.
	Waiting() (map[string]int, error)
	// Stat describes the spool. It never waits.
	Stat() SpoolStat
	Close() error
}

// Spooled is one entry of a spool.
type Spooled struct {
	Seq     int64
	Accept  *Accept
	Refused int
	Err     error // it cannot be read
}

// SpoolStat describes a spool.
type SpoolStat struct {
	Path   string
	Events int // that wait, without what is stuck
	Stuck  int
	Bytes  int64
	Oldest time.Time // that waits; zero if none does
	Error  string    // why the spool cannot take what comes; empty if it can
}

// spooler takes callbacks that the store cannot, and hands them over in order once it can.
type spooler struct {
	engine *Engine
	spool  Spool
	signal chan struct{} // capacity 1: something waits to be appended

	mu      sync.Mutex
	queue   []*spooling
	sources map[string]*spoolSource
	closed  bool
}

// spoolSource is what the spooler knows of one source.
type spoolSource struct {
	waiting  int           // entries, with those that are about to be appended
	down     bool          // the store did not take the last callback
	draining bool          // a goroutine drains it
	handover chan struct{} // closed when new callbacks need wait no longer; nil where they need not wait at all
	news     chan struct{} // capacity 1: an entry was appended
}

// spooling is an accept on its way into the spool.
type spooling struct {
	accept *Accept
	done   chan struct{}
	err    error
}

func newSpooler(e *Engine, spool Spool) (*spooler, error) {
	s := &spooler{engine: e, spool: spool, signal: make(chan struct{}, 1), sources: map[string]*spoolSource{}}
	waiting, err := spool.Waiting()
	if err != nil {
		return nil, err
	}
	for source, n := range waiting {
		s.of(source).waiting = n
	}
	return s, nil
}

// of gives what is known of a source. The caller holds s.mu, or is the only one.
func (s *spooler) of(source string) *spoolSource {
	st := s.sources[source]
	if st == nil {
		st = &spoolSource{news: make(chan struct{}, 1)}
		s.sources[source] = st
	}
	return st
}

// follows says that a callback of the source must go through the spool: because earlier ones are there, or because the
// store is down. It waits for a drain that is nearly done. Where it is true, an entry is counted, and must be taken.
func (s *spooler) follows(ctx context.Context, source string) bool {
	for {
		s.mu.Lock()
		st := s.of(source)
		if st.waiting == 0 && !st.down {
			s.mu.Unlock()
			return false
		}
		handover := st.handover
		if handover == nil || ctx.Err() != nil {
			st.waiting++
			s.mu.Unlock()
			return true
		}
		s.mu.Unlock()
		select {
		case <-handover:
		case <-ctx.Done():
		}
	}
}

// divert notes that the store did not take a callback, and counts an entry, which must be taken.
func (s *spooler) divert(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.of(source)
	if !st.down {
		s.engine.logger().Warn("the store does not take callbacks: they go to the spool", "source", source)
	}
	st.down = true
	st.waiting++
}

// take puts an accept into the spool, durably, and waits for that until ctx ends. The entry has been counted.
func (s *spooler) take(ctx context.Context, a *Accept) error {
	op := &spooling{accept: a, done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.of(a.Event.Source).waiting--
		s.mu.Unlock()
		return ErrClosed
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

// appendLoop appends what waits, together, until the engine stops.
func (s *spooler) appendLoop() {
	for {
		select {
		case <-s.signal:
		case <-s.engine.stop:
			s.mu.Lock()
			s.closed = true
			s.mu.Unlock()
			s.appendAll() // what came before the stop
			return
		}
		s.appendAll()
	}
}

func (s *spooler) appendAll() {
	s.mu.Lock()
	queue := s.queue
	s.queue = nil
	s.mu.Unlock()
	if len(queue) == 0 {
		return
	}
	accepts := make([]*Accept, len(queue))
	for i, op := range queue {
		accepts[i] = op.accept
	}
	err := s.spool.Append(accepts)
	for i, op := range queue {
		if err != nil && len(queue) > 1 {
			op.err = s.spool.Append(accepts[i : i+1]) // one that is too large must not take the others with it
		} else {
			op.err = err
		}
		close(op.done)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range queue {
		st := s.of(op.accept.Event.Source)
		if op.err != nil {
			st.waiting--
		}
		// Even after a failure: the drain finds out whether the store is up again.
		s.drainSoon(op.accept.Event.Source, st)
	}
}

// drainSoon sees to it that a source is drained. The caller holds s.mu.
func (s *spooler) drainSoon(source string, st *spoolSource) {
	select {
	case st.news <- struct{}{}:
	default:
	}
	if !st.draining && !s.closed {
		st.draining = true
		s.engine.loops.Go(func() { s.drain(source, st) })
	}
}

// start begins to drain what an earlier process has left.
func (s *spooler) start() {
	s.engine.loops.Go(s.appendLoop)
	s.mu.Lock()
	defer s.mu.Unlock()
	for source, st := range s.sources {
		if st.waiting > 0 {
			s.drainSoon(source, st)
		}
	}
}

// spoolable says that an accept which failed so belongs into the spool.
func spoolable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrStoreFull) || errors.Is(err, context.DeadlineExceeded)
}

func (s SpoolStat) age() time.Duration {
	if s.Oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(s.Oldest))
}

// openSpool opens the spool, or keeps trying to: without one, callbacks get 503 while the store cannot take them.
func (e *Engine) openSpool(ctx context.Context) {
	if e.options.OpenSpool == nil {
		return
	}
	err := e.tryOpenSpool(ctx)
	if err == nil {
		return
	}
	e.mu.Lock()
	e.spooling = err
	e.mu.Unlock()
	e.logger().Error("spool cannot be opened; while the store cannot take callbacks they get 503", "error", err)
	e.loops.Go(func() {
		const longest = 30 * time.Second
		for pause := time.Second; ; pause = min(2*pause, longest) {
			select {
			case <-e.stop:
				return
			case <-time.After(pause):
			}
			err := e.tryOpenSpool(e.ctx)
			e.mu.Lock()
			e.spooling = err
			e.mu.Unlock()
			if err == nil {
				e.logger().Info("spool opened")
				return
			}
		}
	})
}

func (e *Engine) tryOpenSpool(ctx context.Context) error {
	spool, err := e.options.OpenSpool(ctx)
	if err != nil {
		return err
	}
	s, err := newSpooler(e, spool)
	if err != nil {
		return errors.Join(err, spool.Close())
	}
	s.start()
	e.spooler.Store(s)
	return nil
}

// closeSpool closes the spool, and says loudly what stays in it: that is lost with the disk of this node.
func (e *Engine) closeSpool() error {
	s := e.spooler.Swap(nil)
	if s == nil {
		return nil
	}
	if stat := s.spool.Stat(); stat.Events+stat.Stuck > 0 {
		e.logger().Error("the spool is not empty: its callbacks are delivered when this gateway runs again with the same spool",
			"path", stat.Path, "events", stat.Events, "stuck", stat.Stuck, "oldest", stat.Oldest)
	}
	return s.spool.Close()
}

// Spooled counts what waits in the spool, without what is stuck.
func (e *Engine) Spooled() int {
	if s := e.spooler.Load(); s != nil {
		return s.spool.Stat().Events
	}
	return 0
}

func (e *Engine) spoolStatus() *SpoolStatus {
	if e.options.OpenSpool == nil {
		return nil
	}
	s := e.spooler.Load()
	if s == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		st := &SpoolStatus{}
		if e.spooling != nil {
			st.Error = e.spooling.Error()
		}
		return st
	}
	stat := s.spool.Stat()
	return &SpoolStatus{
		Location: stat.Path, Up: true, Events: stat.Events, Stuck: stat.Stuck, Bytes: stat.Bytes,
		OldestSeconds: stat.age().Seconds(),
	}
}
