package spool

import (
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// deletedAtOnce bounds how many entries one transaction deletes.
const deletedAtOnce = 1000

// handed holds the entries that the store has, and the file still does: a full disk does not even let go of what is in its
// files. A process that ends before they are deleted hands them over once more, and the store knows them by their ids.
type handed struct {
	entries map[int64]string // the id of what each is about, by seq
	// past is, of each source, an entry up to which all are handed over: they may be many, and are not stepped over again
	// and again. That of anySource is of all sources.
	past map[string]int64
}

const anySource = ""

func newHanded() handed { return handed{map[int64]string{}, map[string]int64{}} }

// waiting calls f for the rows of a statement whose entry the store does not have, until it is done. The first column is the
// entry's seq, by which the rows ascend, and the first parameter the seq behind which they begin.
func (h *handed) waiting(source string, st *sqlitefile.Stmt, f func(*sqlitefile.Stmt) (done bool, err error)) error {
	st.BindInt64(1, h.past[source])
	first := true
	return st.Until(func(st *sqlitefile.Stmt) (done bool, err error) {
		seq := st.ColumnInt64(0)
		if h.entries[seq] == "" {
			first = false
			return f(st)
		}
		if first {
			h.past[source] = seq
		}
		return false, nil
	})
}

// subjectOf returns the id of what an entry is about: of its event, or its task.
func subjectOf(a *relay.Accept, e *relay.Expectation) string {
	if a != nil {
		return a.Event.ID
	}
	return e.TaskID
}

// Remove implements relay.Spool.
func (s *Spool) Remove(items []*relay.Spooled) error {
	s.hand(items)
	return s.deleteHanded()
}

// hand notes that the store has entries. They wait no more.
func (s *Spool) hand(items []*relay.Spooled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stat := *s.stat.Load()
	for _, item := range items {
		s.handed.entries[item.Seq] = subjectOf(item.Accept, item.Task)
	}
	stat.Events -= len(items)
	_ = guard.Step(func() error { return s.findOldest(&stat) }) // or it is found when they are deleted
	s.stat.Store(&stat)
}

// deleteHanded deletes entries that the store has. It gives the room of an empty file back.
func (s *Spool) deleteHanded() error {
	var deleted []int64
	err := s.transact(func(stat *relay.SpoolStat) error {
		for seq := range s.handed.entries {
			st := s.db.Writer.Stmt("DELETE FROM item WHERE seq = ? RETURNING size")
			st.BindInt64(1, seq)
			if err := st.Each(func() { stat.Bytes -= st.ColumnInt64(0) }); err != nil {
				return err
			}
			if deleted = append(deleted, seq); len(deleted) == deletedAtOnce {
				break
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range deleted {
		delete(s.handed.entries, seq)
	}
	if len(s.handed.entries) > 0 {
		return nil
	}
	s.handed = newHanded()
	if stat := s.stat.Load(); stat.Events+stat.Stuck == 0 && s.ready() == nil {
		_ = s.db.Write(func() error { return s.db.Writer.Pragma("incremental_vacuum") }) // or the room is given back some other time
	}
	return nil
}

// findHanded forgets what the file, which was opened anew, does not have as it was handed over: somebody has cut its log,
// and another entry may have got the number.
func (s *Spool) findHanded() error {
	s.handed.past = map[string]int64{}
	for seq, subject := range s.handed.entries {
		found := false
		st := s.db.Writer.Stmt("SELECT source, meta, headers, body FROM item WHERE seq = ?")
		st.BindInt64(1, seq)
		if err := st.Each(func() {
			a, e, err := decode(st.ColumnText(0), st.ColumnBlob(1), st.ColumnBlob(2), st.ColumnBlob(3))
			found = err == nil && subjectOf(a, e) == subject
		}); err != nil {
			return err
		}
		if !found {
			delete(s.handed.entries, seq)
		}
	}
	return nil
}
