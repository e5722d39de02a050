package sqlitestore

import (
	"context"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// The states of an expected task. One that is open is overdue once its time has come.
const (
	taskOpen = iota
	taskRecovered
	taskGivenUp
	taskCalledBack
)

// expected holds what memory knows of a source's expected tasks. It is guarded as a destination is.
type expected struct {
	open    int64
	overdue int64 // of those that are open, as far as has been counted
	counted int64 // overdue counts the tasks that were overdue at this time
	nextDue int64 // no task is due before; never if none is open
	leased  int64 // when a task was last leased
}

// expectedRow holds what a change needs of a task.
type expectedRow struct {
	seq, source  int64
	task, api    string
	state        int64
	at, overdue  int64
	token, polls int64
	event        ulid.ULID
	key          [32]byte
	ending       relay.Ending
}

const expectedColumns = "SELECT seq, source, task, api, state, at, overdue, token, polls, event, key, ending FROM expected "

func readExpected(st *sqlitefile.Stmt) expectedRow {
	r := expectedRow{
		seq: st.ColumnInt64(0), source: st.ColumnInt64(1), task: st.ColumnText(2), api: st.ColumnText(3), state: st.ColumnInt64(4),
		at: st.ColumnInt64(5), overdue: st.ColumnInt64(6), token: st.ColumnInt64(7), polls: st.ColumnInt64(8), ending: relay.Ending(st.ColumnInt64(11)),
	}
	st.ColumnBytes(9, r.event[:])
	st.ColumnBytes(10, r.key[:])
	return r
}

const expectedOf = expectedColumns + "WHERE source = +? AND task = +?"

// expectedTask returns a task, nil if it was never expected. The caller holds write.
func (s *Store) expectedTask(source int64, task string) (found *expectedRow, err error) {
	st := s.db.Writer.Stmt(expectedOf)
	st.BindInt64(1, source)
	st.BindText(2, task)
	err = st.Until(func(st *sqlitefile.Stmt) (bool, error) {
		r := readExpected(st)
		found = &r
		return true, nil
	})
	return found, err
}

// loadExpected counts the tasks that are open.
func (s *Store) loadExpected(k *known) error {
	now := s.clock.now()
	st := s.db.Writer.Stmt("SELECT source, count(*), sum(overdue <= ?), min(due) FROM expected WHERE state = 0 GROUP BY source")
	st.BindInt64(1, now)
	return st.Each(func() {
		k.expected[st.ColumnInt64(0)] = &expected{
			open: st.ColumnInt64(1), overdue: st.ColumnInt64(2), counted: now, nextDue: st.ColumnInt64(3), leased: -never,
		}
	})
}

// tasksOf returns what memory knows of a source's tasks. The caller holds write, and mem if there may be none yet.
func (s *Store) tasksOf(source int64) *expected {
	t := s.expected[source]
	if t == nil {
		t = &expected{counted: s.clock.now(), nextDue: never, leased: -never}
		s.expected[source] = t
	}
	return t
}

// closed notes that an open task has ended.
func (t *expected) closed(overdue int64) {
	t.open--
	if overdue <= t.counted {
		t.overdue--
	}
	if t.open == 0 {
		t.nextDue = never
	}
}

// Expect implements relay.TaskStore.
func (s *Store) Expect(ctx context.Context, e *relay.Expectation) error {
	return s.alone(ctx, func() error {
		source, err := s.ensureSource(e.Source)
		if err != nil {
			return err
		}
		return s.expect(source, e)
	})
}

func (s *Store) expect(source int64, e *relay.Expectation) error {
	before, err := s.expectedTask(source, e.TaskID)
	if err != nil || before != nil && before.state != taskGivenUp && (e.API == "" || e.API == before.api) {
		return err
	}
	reopened := before == nil || before.state != taskOpen
	if t := s.expected[source]; reopened && t != nil && t.open >= int64(e.Most) {
		return fmt.Errorf("source %q: %w: %d", e.Source, relay.ErrTooManyTasks, t.open)
	}
	if s.short() {
		return s.errShort()
	}
	var final *expectedRow
	if before == nil || before.state == taskGivenUp { // of another API's task the events say nothing
		if final, err = s.finalEvent(source, e.TaskID); err != nil {
			return err
		}
	}
	now := s.clock.now()
	overdue := now + max(ceil(e.After), 1)
	if err := s.transact(nil, func() error {
		st := s.db.Writer.Stmt(`INSERT INTO expected (source, task, api, registered, at, overdue, due) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
			ON CONFLICT (source, task) DO UPDATE SET api = ?3, state = 0, registered = ?4, at = ?5, overdue = ?6, due = ?6,
				token = 0, polls = 0, polled = 0, reason = '', event = NULL, key = NULL, ending = 0, ended = 0, ended_at = 0`)
		st.BindInt64(1, source)
		st.BindText(2, e.TaskID)
		st.BindText(3, e.API)
		st.BindInt64(4, millis(e.At))
		st.BindInt64(5, now)
		st.BindInt64(6, overdue)
		if err := st.Exec(); err != nil || final == nil {
			return err
		}
		row, err := s.expectedTask(source, e.TaskID)
		if err == nil {
			err = s.endTask(now, row.seq, taskCalledBack, &final.key, final.event, final.ending)
		}
		return err
	}); err != nil {
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	t := s.tasksOf(source)
	if before != nil && before.state == taskOpen {
		t.closed(before.overdue)
	}
	if final == nil {
		t.open++
		t.nextDue = min(t.nextDue, overdue)
		if overdue <= t.counted { // cannot be, while the clock only advances
			t.overdue++
		}
	}
	return nil
}

// finalEvent finds an event that has ended a task before it was registered; nil if there is none.
func (s *Store) finalEvent(source int64, task string) (found *expectedRow, err error) {
	events, err := s.eventsOf(s.db.Writer, task, never, false)
	for _, seq := range events {
		if found != nil || err != nil {
			break
		}
		st := s.db.Writer.Stmt("SELECT id, key, stage FROM event WHERE seq = ? AND source = ? AND task = ?")
		st.Bind(seq, source)
		st.BindText(3, task)
		err = st.Each(func() {
			if relay.FinalStage(st.ColumnText(2)) {
				found = &expectedRow{}
				st.ColumnBytes(0, found.event[:])
				st.ColumnBytes(1, found.key[:])
			}
		})
	}
	return found, err
}

// endTask ends a task: with the event that did and its key, or without one.
func (s *Store) endTask(now, seq, state int64, key *[32]byte, id ulid.ULID, ending relay.Ending) error {
	st := s.db.Writer.Stmt("UPDATE expected SET state = ?, token = 0, ending = ?, ended = ?, ended_at = ?, event = ?, key = ? WHERE seq = ?")
	st.Bind(state, int64(ending), now, millis(s.clock.Wall()))
	if key != nil {
		st.BindBytes(5, id[:])
		st.BindBytes(6, key[:])
	} else {
		st.BindNull(5)
		st.BindNull(6)
	}
	st.BindInt64(7, seq)
	return st.Exec()
}

const dueTasks = expectedColumns + "WHERE source = +? AND state = 0 AND due <= ? ORDER BY due LIMIT ?"

// LeaseTasks implements relay.TaskStore.
func (s *Store) LeaseTasks(ctx context.Context, l *relay.TaskLease) (leased []*relay.LeasedTask, next time.Duration, err error) {
	err = s.alone(ctx, func() error {
		leased, next, err = s.leaseTasks(l)
		return err
	})
	return leased, next, err
}

func (s *Store) leaseTasks(l *relay.TaskLease) ([]*relay.LeasedTask, time.Duration, error) {
	source, ok := s.sources[l.Source]
	t := s.expected[source]
	if !ok || t == nil || t.open == 0 {
		return nil, -1, nil
	}
	now := s.clock.now()
	if pause := t.leased + ceil(l.Every) - now; pause > 0 {
		return nil, duration(max(pause, t.nextDue-now)), nil
	}
	var rows []expectedRow
	st := s.db.Writer.Stmt(dueTasks)
	st.Bind(source, now, int64(l.Max))
	if err := st.Each(func() { rows = append(rows, readExpected(st)) }); err != nil {
		return nil, 0, err
	}
	var leased []*relay.LeasedTask
	nextDue := int64(0)
	err := s.transact(nil, func() error {
		leased = nil
		for _, r := range rows {
			s.token++
			st := s.db.Writer.Stmt("UPDATE expected SET token = ?, due = ?, polls = polls + 1, polled = ? WHERE seq = ?")
			st.Bind(int64(s.token), now+ceil(l.For), millis(s.clock.Wall()), r.seq)
			if err := st.Exec(); err != nil {
				return err
			}
			leased = append(leased, &relay.LeasedTask{
				ExpectedTask: relay.ExpectedTask{Source: l.Source, TaskID: r.task, API: r.api},
				Token:        s.token, Polls: int(r.polls) + 1, Age: duration(now - r.at),
			})
		}
		var err error
		nextDue, err = s.firstDue(source)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	t.nextDue = nextDue
	if len(leased) == 0 {
		return nil, duration(max(0, nextDue-now)), nil
	}
	t.leased = now
	return leased, duration(max(ceil(l.Every), nextDue-now, 0)), nil
}

const firstDueTask = "SELECT coalesce(min(due), ?2) FROM expected WHERE source = +?1 AND state = 0"

func (s *Store) firstDue(source int64) (int64, error) {
	st := s.db.Writer.Stmt(firstDueTask)
	st.Bind(source, never)
	return st.Int64()
}

// SettleTask implements relay.TaskStore.
func (s *Store) SettleTask(ctx context.Context, op *relay.TaskSettle) error {
	return s.alone(ctx, func() error {
		source := s.sources[op.Source]
		r, err := s.expectedTask(source, op.TaskID)
		if err != nil {
			return err
		}
		if r == nil || r.state != taskOpen || uint64(r.token) != op.Token {
			return fmt.Errorf("task %s of source %q: %w", op.TaskID, op.Source, relay.ErrLeaseLost)
		}
		now := s.clock.now()
		due := now + ceil(op.Delay)
		if err := s.transact(nil, func() error {
			st := s.db.Writer.Stmt("UPDATE expected SET token = 0, due = ?, reason = ? WHERE seq = ?")
			st.BindInt64(1, due)
			st.BindText(2, op.Reason)
			st.BindInt64(3, r.seq)
			if err := st.Exec(); err != nil || !op.GivenUp {
				return err
			}
			return s.endTask(now, r.seq, taskGivenUp, nil, ulid.ULID{}, relay.NotEnding)
		}); err != nil {
			return err
		}
		s.mem.Lock()
		defer s.mem.Unlock()
		if t := s.tasksOf(source); op.GivenUp {
			t.closed(r.overdue)
		} else {
			t.nextDue = min(t.nextDue, due)
		}
		return nil
	})
}

// TaskCounts implements relay.TaskStore.
func (s *Store) TaskCounts() (counts []relay.TaskCount) {
	s.mem.Lock()
	defer s.mem.Unlock()
	now := s.clock.now()
	for source, t := range s.expected {
		c := relay.TaskCount{Source: s.sourceNames[source], Expected: t.open - t.overdue, Overdue: t.overdue, Due: -1}
		if t.open > 0 {
			c.Due = duration(max(0, t.nextDue-now))
		}
		counts = append(counts, c)
	}
	return counts
}

const newlyOverdue = "SELECT count(*) FROM expected WHERE source = +? AND state = 0 AND overdue > ? AND overdue <= ?"

// countOverdue counts the tasks that have become overdue since it was last done.
func (s *Store) countOverdue() error {
	if s.faulty() {
		return nil // look sees to that
	}
	s.write.Lock()
	defer s.write.Unlock()
	if s.closed {
		return nil
	}
	now := s.clock.now()
	for source, t := range s.expected {
		if t.open == t.overdue {
			continue
		}
		st := s.db.Writer.Stmt(newlyOverdue)
		st.Bind(source, t.counted, now)
		n, err := st.Int64()
		if err != nil {
			return err
		}
		s.mem.Lock()
		t.overdue, t.counted = t.overdue+n, now
		s.mem.Unlock()
	}
	return nil
}
