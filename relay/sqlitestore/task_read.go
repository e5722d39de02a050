package sqlitestore

import (
	"cmp"
	"context"
	"strconv"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

const (
	shownExpected  = "SELECT seq, source, task, api, state, registered, overdue, due, polls, polled, reason, event, ended_at FROM expected "
	newestExpected = shownExpected + "WHERE seq < ? ORDER BY seq DESC LIMIT ?"
	namedExpected  = shownExpected + "WHERE source = +? AND task = +? AND seq < ?"
)

// Tasks implements relay.TaskStore.
func (s *Store) Tasks(ctx context.Context, f relay.TaskFilter) (tasks []relay.TaskRecord, next string, err error) {
	from, err := parseCursor(f.Cursor)
	if err != nil {
		return nil, "", err
	}
	limit, n := cmp.Or(max(f.Limit, 0), defaultLimit), 0
	take := func(st *sqlitefile.Stmt) {
		r := s.readTask(st)
		n++
		if (f.Source == "" || f.Source == r.Source) && (f.State == "" || f.State == r.State) {
			tasks = append(tasks, r)
		}
	}
	err = s.read(ctx, func(c *sqlitefile.Conn) error {
		if f.TaskID == "" {
			st := c.Stmt(newestExpected)
			st.Bind(from, scanned)
			return st.Until(func(st *sqlitefile.Stmt) (full bool, err error) {
				take(st)
				if full = len(tasks) == limit || n == scanned; full {
					next = strconv.FormatInt(st.ColumnInt64(0), 10)
				}
				return full, nil
			})
		}
		for _, source := range s.sourceIDs(f.Source) {
			st := c.Stmt(namedExpected)
			st.BindInt64(1, source)
			st.BindText(2, f.TaskID)
			st.BindInt64(3, from)
			if err := st.Each(func() { take(st) }); err != nil {
				return err
			}
		}
		return nil // of each source there is one at most
	})
	return tasks, next, err
}

// sourceIDs returns the number of a source, or all of them where none is named.
func (s *Store) sourceIDs(name string) (ids []int64) {
	s.mem.Lock()
	defer s.mem.Unlock()
	for source, id := range s.sources {
		if name == "" || name == source {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Store) readTask(st *sqlitefile.Stmt) relay.TaskRecord {
	s.mem.Lock()
	source := s.sourceNames[st.ColumnInt64(1)]
	s.mem.Unlock()
	r := relay.TaskRecord{
		ExpectedTask: relay.ExpectedTask{Source: source, TaskID: st.ColumnText(2), API: st.ColumnText(3), At: fromMillis(st.ColumnInt64(5))},
		Polls:        st.ColumnInt(8), LastPoll: fromMillis(st.ColumnInt64(9)), Reason: st.ColumnText(10), EndedAt: fromMillis(st.ColumnInt64(12)),
	}
	if event := st.ColumnBlob(11); event != nil {
		var id ulid.ULID
		copy(id[:], event)
		r.EventID = id.String()
	}
	now := s.clock.now()
	switch state := st.ColumnInt64(4); {
	case state == taskRecovered:
		r.State = relay.TaskRecovered
	case state == taskGivenUp:
		r.State = relay.TaskGivenUp
	case state == taskCalledBack:
		r.State = relay.TaskCalledBack
	case st.ColumnInt64(6) <= now:
		r.State = relay.TaskOverdue
	default:
		r.State = relay.TaskExpected
	}
	if !r.State.Ended() {
		r.NextPoll = duration(max(0, st.ColumnInt64(7)-now))
	}
	return r
}

const endedTasks = "DELETE FROM expected WHERE seq IN (SELECT seq FROM expected WHERE state > 0 AND ended <= ? ORDER BY ended LIMIT ?)"

// tasks deletes the tasks that have ended for long enough.
func (w *sweep) tasks() error {
	st := w.db.Writer.Stmt(endedTasks)
	st.Bind(w.now-ceil(w.policy.Retention), sweepStep)
	if err := st.Exec(); err != nil {
		return err
	}
	w.result.More = w.result.More || w.db.Writer.Changes() == sweepStep
	return nil
}
