package spooling

import (
	"context"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
)

// drain hands the entries of a source over to the store, in their order, until there are none. It is also the probe of a
// store that is down: while it fails, no callback of the source has to.
func (s *Spooler) drain(source string, st *spoolSource) {
	log := func() {
		s.params.Logger().Info("the spool is drained: callbacks go to the store again", "source", source)
	}
	pause, most := drainPause, drainBatch
	for {
		items, err := s.spool.Next(source, most)
		if err != nil {
			s.params.Logger().Error("spool cannot be read; it is tried again", "source", source, "error", err)
		}
		wait := time.Duration(0)
		switch {
		case err == nil && len(items) == 0:
			s.mu.Lock()
			if st.waiting <= 0 {
				st.draining, st.down = false, false
				st.release()
				s.mu.Unlock()
				log()
				return
			}
			s.mu.Unlock()
			wait = drainLongest // entries are about to be appended, which is told
		case err == nil && s.handOver(source, items, st):
			pause, most = drainPause, drainBatch
		default:
			most = max(1, most/2) // it may have been more than the store takes in its time
			s.mu.Lock()
			st.release()
			s.mu.Unlock()
			wait, pause = pause, min(2*pause, drainLongest)
		}
		if !s.sleep(wait, st, err == nil && len(items) == 0) {
			s.mu.Lock()
			st.draining = false
			st.release()
			s.mu.Unlock()
			return
		}
	}
}

// sleep waits, or with news until an entry is appended. It is false when the engine stops.
func (s *Spooler) sleep(d time.Duration, st *spoolSource, news bool) bool {
	var appended chan struct{}
	if news {
		appended = st.news
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.stop:
		return false
	case <-appended:
	case <-timer.C:
	}
	return true
}

// release lets callbacks that wait for the end of a drain go on. The caller holds the spooler's lock.
func (st *spoolSource) release() {
	if st.handover != nil {
		close(st.handover)
		st.handover = nil
	}
}

// handOver applies entries and removes what the store has. It is false where the store did not take them all.
func (s *Spooler) handOver(source string, items []*relay.Spooled, st *spoolSource) bool {
	items, ok := s.readable(source, items, st)
	if !ok || len(items) == 0 {
		return ok
	}
	store, err := s.params.Access.Store()
	if err != nil {
		return false
	}
	items = portion(items)
	batch := relay.Batch{}
	for _, item := range items {
		batch.Accepts = append(batch.Accepts, item.Accept)
	}
	start := time.Now()
	store.Apply(context.Background(), &batch)
	err = commit.Failure(&batch)
	s.params.Meter.ObserveStore("drain", start, err)
	s.params.Commit.Of(source).SetHealthy(err == nil)

	var taken []*relay.Spooled
	stuck := 0
	for _, item := range items {
		a := item.Accept
		switch {
		case a.Err == nil:
			taken = append(taken, item)
		case !Spoolable(a.Err):
			if s.refuse(source, item, a.Err) {
				stuck++
			}
		}
	}
	s.mu.Lock()
	st.waiting -= stuck
	s.mu.Unlock()
	if len(taken) > 0 {
		if err := s.spool.Remove(taken); err != nil {
			// They are applied again, and known by their ids.
			s.params.Logger().Error("spool cannot be written; it is tried again", "source", source, "error", err)
			return false
		}
		for _, item := range taken {
			s.params.Stored(item.Accept)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.waiting -= len(taken)
	well := len(taken)+stuck == len(items)
	if well && st.handover == nil && st.waiting <= handoverBelow {
		st.handover = make(chan struct{})
	}
	return well
}

// portion cuts entries to what one batch may touch, and before the second one of a task: an accept may fail where a later
// one of its batch succeeds, and must not be overtaken by one of its own task.
func portion(items []*relay.Spooled) []*relay.Spooled {
	touched, tasks := 0, map[string]bool{}
	for i, item := range items {
		touched += max(1, len(item.Accept.Deliveries))
		if i > 0 && (touched > relay.MaxTouched || tasks[item.Accept.Event.TaskID]) {
			return items[:i]
		}
		tasks[item.Accept.Event.TaskID] = true
	}
	return items
}

// readable sets aside the entries that cannot be read, and gives the others. It is false where the spool cannot be written.
func (s *Spooler) readable(source string, items []*relay.Spooled, st *spoolSource) (readable []*relay.Spooled, ok bool) {
	ok = true
	for _, item := range items {
		switch {
		case item.Err == nil:
			readable = append(readable, item)
		case s.refuse(source, item, item.Err):
			s.mu.Lock()
			st.waiting--
			s.mu.Unlock()
		default:
			ok = false
		}
	}
	return readable, ok
}

// refuse counts that an entry was refused for what it is, and says whether it is stuck.
func (s *Spooler) refuse(source string, item *relay.Spooled, reason error) (stuck bool) {
	log := s.params.Logger().With("source", source, "entry", item.Seq, "error", reason)
	if item.Accept != nil {
		log = log.With("event_id", item.Accept.Event.ID)
	}
	stuck, err := s.spool.Refuse(item, reason.Error())
	switch {
	case err != nil:
		log.Error("spool cannot be written; it is tried again", "spool_error", err)
	case item.Err != nil:
		log.Error("a spooled callback cannot be read: it is set aside in the spool, and needs an operator")
	case stuck:
		log.Error("the store refuses a spooled callback: it is set aside in the spool, and needs an operator")
	default:
		log.Warn("the store refuses a spooled callback; it is tried again")
	}
	return stuck
}
