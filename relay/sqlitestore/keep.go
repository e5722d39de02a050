package sqlitestore

import (
	"errors"
	"fmt"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	lookEvery   = 500 * time.Millisecond // how often the file is looked at: what is wrong with it shows within a second
	oldestEvery = 2 * time.Second        // how often the age of the oldest delivery is looked up, where any is pending
	clockEvery  = time.Minute
	passiveFrom = 32 << 20 // bytes of log from which it is copied into the database, beside the writer
	truncateAt  = 64 << 20 // bytes of log at which the writer has to wait for that
	freeEvery   = time.Second
)

// keep looks after the file until the store is closed: it notices what others do to it and opens it anew, moves the log into
// the database, stores the clock, finds the oldest deliveries, and counts overdue tasks. A step that panics is logged and tried again at its time.
func (s *Store) keep() {
	look, oldest, clock := time.NewTicker(lookEvery), time.NewTicker(oldestEvery), time.NewTicker(clockEvery)
	defer look.Stop()
	defer oldest.Stop()
	defer clock.Stop()
	ills := map[string]string{}
	for {
		var name string
		var step func() error
		select {
		case <-s.db.Closing():
			return
		case err := <-s.panics:
			s.logger.Error("store panicked; the operation failed", "store", s.db.Path(), "error", err, "stack", guard.Stack(err))
			continue
		case <-look.C:
			name, step = "store unhealthy; callbacks are answered 503", s.look
		case <-s.walCheck:
			name, step = "recent events cannot be indexed, or the log not be moved into the database", s.tendLog
		case <-oldest.C:
			name, step = "oldest deliveries or overdue tasks cannot be counted", s.countWaiting
		case <-clock.C:
			name, step = "store's clock cannot be saved", s.keepClock
		}
		err := guard.Step(step)
		if s.closing() != nil {
			return // which interrupts
		}
		s.report(ills, name, err)
	}
}

// report logs what keeps a step from its work, once until that changes.
func (s *Store) report(ills map[string]string, name string, err error) {
	before := ills[name]
	if err == nil {
		delete(ills, name)
		if before != "" {
			s.logger.Info("store healthy again", "store", s.db.Path(), "before", before)
		}
		return
	}
	if guard.Stack(err) != "" && !s.faulty() {
		err = s.db.Break(err) // what the step has left behind nobody knows
	}
	if ills[name] = err.Error(); ills[name] == before {
		return
	}
	log := s.logger.With("store", s.db.Path(), "error", err)
	if stack := guard.Stack(err); stack != "" {
		log = log.With("stack", stack)
	}
	log.Error(name + "; it is tried again")
}

// look finds out whether the file is as it should be and takes writes. A fault is returned at once, so that it is logged,
// and mended from the next look on.
func (s *Store) look() error {
	s.measureFree()
	if fault := s.db.Check(); fault != nil {
		if !errors.Is(fault, s.seen) {
			s.seen = fault
			return fault
		}
		return s.mend()
	}
	if !s.write.TryLock() {
		return s.db.Health() // who has it finds out
	}
	defer s.write.Unlock()
	if s.closed {
		return nil
	}
	_ = s.db.Probe(s.clockChange) // which health says
	return s.db.Health()
}

// mend opens the file anew, and reads again what memory knows of it. Leases become void, as at a restart.
func (s *Store) mend() error {
	lost, err := s.mendNow()
	if err == nil && lost > 0 {
		s.logger.Error("store has lost events that it had answered, since somebody has truncated its log", "store", s.db.Path(), "events", lost)
	}
	return err
}

func (s *Store) mendNow() (lost int64, err error) {
	s.write.Lock()
	defer s.write.Unlock()
	if s.closed {
		return 0, nil
	}
	if err := s.db.Mend(); err != nil {
		return 0, err
	}
	before := s.newest
	if err := s.load(); err != nil {
		return 0, s.db.Break(err)
	}
	return before - s.newest, nil
}

// askForCheckpoint wakes keep from time to time. The caller holds write.
func (s *Store) askForCheckpoint() {
	if s.commits++; s.commits%64 == 0 {
		select {
		case s.walCheck <- struct{}{}:
		default:
		}
	}
}

func (s *Store) faulty() bool { return s.db.Fault() != nil }

func (s *Store) tendLog() error {
	if s.faulty() {
		return nil // look sees to that
	}
	return errors.Join(s.index(s.db.Keeper), s.checkpoint())
}

// checkpoint keeps the log short: beside the writer while it can, and with the writer waiting once it is too long.
func (s *Store) checkpoint() error {
	size, err := s.db.LogBytes()
	if size < passiveFrom || err != nil {
		return err
	}
	if err := s.db.Check(); err != nil {
		return err // or what is not in the log would be copied
	}
	if err := s.db.Keeper.Pragma("wal_checkpoint(passive)"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if size < truncateAt {
		return nil
	}
	return s.truncateLog()
}

// truncateLog makes the writer wait while the rest of the log is copied, which is little by now, and begins the log anew.
// It does not wait for somebody who reads: callbacks would wait too.
func (s *Store) truncateLog() error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.db.Fault(); err != nil {
		return err
	}
	return s.db.TruncateLog()
}

// saveClock stores the clock beside the wall clock, by which a later start can tell how long the stop took, and from which
// event on it must look for leases that have ended. The caller holds write.
func (s *Store) saveClock() error { return s.transact(nil, s.clockChange) }

func (s *Store) clockChange() error {
	return errors.Join(s.setMeta("wall", millis(s.clock.Wall())), s.setMeta("clock", s.clock.now()), s.setMeta("held", s.held()))
}

func (s *Store) keepClock() error {
	if s.faulty() {
		return nil // look sees to that
	}
	s.write.Lock()
	defer s.write.Unlock()
	err := s.flushOld(s.minute)
	s.minute = s.newest
	return errors.Join(err, s.saveClock())
}

func (s *Store) countWaiting() error { return errors.Join(s.findOldest(), s.countOverdue()) }

// findOldest looks up when the oldest pending delivery of each destination was accepted.
func (s *Store) findOldest() error {
	if s.faulty() {
		return nil // look sees to that
	}
	for _, d := range s.busy() {
		st := s.db.Keeper.Stmt(`SELECT min(at) FROM (
			SELECT accepted AS at FROM event WHERE seq = (SELECT min(event) FROM (
				SELECT * FROM (SELECT event ` + fromReady + ` ORDER BY event LIMIT 1)
				UNION ALL SELECT min(event) ` + fromWaiting + ` AND since = 0))
			UNION ALL SELECT min(since) ` + fromWaiting + ` AND since > 0
			UNION ALL SELECT accepted FROM event WHERE seq = ?2)`)
		s.mem.Lock()
		held := d.held()
		s.mem.Unlock()
		st.Bind(d.id, held)
		accepted, err := st.Int64()
		if err != nil {
			return err
		}
		s.mem.Lock()
		d.oldest, d.oldestKnown = accepted, accepted > 0
		s.mem.Unlock()
	}
	return nil
}

// busy returns the destinations that have pending deliveries.
func (s *Store) busy() (busy []*destination) {
	s.mem.Lock()
	defer s.mem.Unlock()
	for _, d := range s.byID {
		if d.pending > 0 {
			busy = append(busy, d)
		}
	}
	return busy
}
