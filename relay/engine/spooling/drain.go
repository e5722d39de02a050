package spooling

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// drain hands the entries of a source over to the store, in their order, until there are none. It is also the probe of a
// store that is down: while it fails, no callback of the source has to.
func (s *Spooler) drain(source string, st *spoolSource) {
	d := draining{spooler: s, source: source, st: st, pause: drainPause, most: drainBatch}
	for !d.done {
		var wait time.Duration
		err := guard.Step(func() error {
			wait = d.step()
			return nil
		})
		if err != nil {
			s.params.Logger().Error("draining the spool failed; trying again", "source", source, "error", err, "stack", guard.Stack(err))
			wait, d.idle = d.failed(), false
		}
		if !d.done && !s.sleep(wait, st, d.idle) {
			d.end(false)
		}
	}
}

// draining is the drain of one source.
type draining struct {
	spooler *Spooler
	source  string
	st      *spoolSource
	pause   time.Duration // after the next failure
	most    int           // entries to hand over at once
	idle    bool          // there was nothing to hand over, but something is about to come
	moved   bool          // something was handed over
	done    bool
}

// step hands over what can be, and returns how long to wait for the next step.
func (d *draining) step() (wait time.Duration) {
	s := d.spooler
	items, err := s.spool.Next(d.source, d.most)
	if err != nil {
		s.health.failed(err)
		d.idle = false
		return d.failed()
	}
	if d.idle = len(items) == 0; d.idle {
		if d.end(true) && d.moved {
			s.params.Logger().Info("spool drained; callbacks go to the store again", "source", d.source)
		}
		return drainLongest
	}
	if !s.handOver(d.source, items, d.st) {
		return d.failed()
	}
	d.pause, d.most, d.moved = drainPause, drainBatch, true
	return 0
}

// failed lets callbacks go on that wait for the end of the drain, and returns the pause until the next try.
func (d *draining) failed() (pause time.Duration) {
	d.most = max(1, d.most/2) // it may have been more than the store can write in time
	d.spooler.mu.Lock()
	defer d.spooler.mu.Unlock()
	d.st.release()
	pause, d.pause = d.pause, min(2*d.pause, drainLongest)
	return pause
}

// end ends the drain and reports whether it has: with drained only if no entry is about to come.
func (d *draining) end(drained bool) bool {
	d.spooler.mu.Lock()
	defer d.spooler.mu.Unlock()
	if drained && d.st.waiting > 0 {
		return false
	}
	if drained {
		d.st.down, d.st.told = false, false
	}
	d.st.draining, d.done = false, true
	d.st.release()
	return true
}

// sleep waits, or with news until an entry is appended, and reports whether the engine goes on.
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

// handOver applies entries and removes what the store has. It reports whether the store accepted them all.
func (s *Spooler) handOver(source string, items []*relay.Spooled, st *spoolSource) bool {
	if items = s.readable(source, items, st); len(items) == 0 {
		return true
	}
	store, err := s.params.Access.Store()
	if err != nil {
		return false
	}
	items = portion(items)
	var taken []*relay.Spooled
	stuck := 0
	for i, err := range s.apply(store, source, items) {
		switch {
		case err == nil:
			taken = append(taken, items[i])
		case errors.Is(err, relay.ErrRefused):
			if s.refuse(source, items[i], err) {
				stuck++
				if a := items[i].Accept; a != nil {
					s.forget(a.Event.ID)
				}
			}
		}
	}
	s.mu.Lock()
	st.waiting -= stuck
	s.mu.Unlock()
	if len(taken) > 0 {
		_ = s.health.written(s.spool.Remove(taken)) // on a full disk they are deleted later
		for _, item := range taken {
			if item.Accept != nil {
				s.forget(item.Accept.Event.ID)
				s.params.Stored(item.Accept)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.waiting -= len(taken)
	all := len(taken)+stuck == len(items)
	if all && st.handover == nil && st.waiting <= handoverBelow {
		st.handover = make(chan struct{})
	}
	return all
}

// apply hands a portion over to the store, and returns the error of each entry.
func (s *Spooler) apply(store relay.Store, source string, items []*relay.Spooled) []error {
	errs, start := make([]error, len(items)), time.Now()
	var err error
	if task := items[0].Task; task != nil {
		err = s.register(store, task)
		errs[0] = err
	} else {
		batch := relay.Batch{}
		for _, item := range items {
			item.Accept.Again = s.settleDoubt(item.Accept.Event.ID)
			batch.Accepts = append(batch.Accepts, item.Accept)
		}
		commit.Apply(store, &batch)
		err = commit.Failure(&batch)
		for i, a := range batch.Accepts {
			errs[i] = a.Err
			if refusal := a.Result.Refusal(); a.Err == nil && refusal != nil {
				errs[i] = fmt.Errorf("%w: %w", relay.ErrRefused, refusal)
				items[i].Refused = relay.MaxRefused // it would be refused however often it is tried
			}
		}
	}
	s.params.Meter.ObserveStore("drain", start, err)
	s.params.Commit.Of(source).SetHealthy(err == nil)
	return errs
}

// register registers a task. One that is too many is dropped, since it will not be expected later either.
func (s *Spooler) register(store relay.Store, task *relay.Expectation) error {
	err := store.Expect(context.Background(), task)
	if errors.Is(err, relay.ErrTooManyTasks) {
		s.params.Logger().Error("task cannot be expected; nobody asks for its result if its callback does not come",
			"source", task.Source, "task_id", task.TaskID, "error", err)
		return nil
	}
	return err
}

// portion cuts entries to what one batch may touch, and before the second one of a task: an accept may fail where a later
// one of its batch succeeds, and must not be overtaken by one of its own task. The registration of a task goes alone.
func portion(items []*relay.Spooled) []*relay.Spooled {
	if items[0].Task != nil {
		return items[:1]
	}
	touched, tasks := 0, map[string]bool{}
	for i, item := range items {
		if item.Task != nil {
			return items[:i]
		}
		touched += max(1, len(item.Accept.Deliveries))
		if i > 0 && (touched > relay.MaxTouched || tasks[item.Accept.Event.TaskID]) {
			return items[:i]
		}
		tasks[item.Accept.Event.TaskID] = true
	}
	return items
}

// readable sets aside the entries that cannot be read, and returns the others.
func (s *Spooler) readable(source string, items []*relay.Spooled, st *spoolSource) (readable []*relay.Spooled) {
	for _, item := range items {
		if item.Err == nil {
			readable = append(readable, item)
		} else if s.refuse(source, item, item.Err) {
			s.mu.Lock()
			st.waiting--
			s.mu.Unlock()
		}
	}
	return readable
}

// refuse counts that an entry was refused for what it is, and reports whether it is stuck.
func (s *Spooler) refuse(source string, item *relay.Spooled, reason error) (stuck bool) {
	log := s.params.Logger().With("source", source, "entry", item.Seq, "error", reason)
	if item.Accept != nil {
		log = log.With("event_id", item.Accept.Event.ID)
	}
	stuck, err := s.spool.Refuse(item, reason.Error())
	_ = s.health.written(err) // on a full disk that is written later
	switch {
	case item.Err != nil:
		log.Error("spooled callback cannot be read: it is set aside in the spool and needs an operator")
	case stuck:
		log.Error("spooled callback refused by the store: it is set aside in the spool and needs an operator")
	default:
		log.Warn("spooled callback refused by the store; trying again")
	}
	return stuck
}
