package spool

import (
	"maps"
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// writtenAtOnce bounds how many fates a probe writes.
const writtenAtOnce = 1000

// unwritten holds what has become of entries, until the file has it: a full disk does not even let go of what is in its files.
// A process that ends before hands them over once more, and the store knows them by their ids, or refuses them again.
type unwritten struct {
	fates map[int64]fate // by seq
	// past is, of each source, an entry up to which none waits any more: they may be many, and are not stepped over again
	// and again. That of anySource is of all sources.
	past map[string]int64
}

// fate holds what has become of an entry.
type fate struct {
	subject string // the id of what it is about; empty where it cannot be read
	stored  bool   // the store has it; else the store has refused it
	refused int    // so often
	stuck   bool   // once too often
	reason  string
}

const anySource = ""

func newUnwritten() unwritten { return unwritten{map[int64]fate{}, map[string]int64{}} }

// over reports whether the entry waits no more.
func (f fate) over() bool { return f.stored || f.stuck }

// count counts the entry, which still counts as one that waits, as what it is.
func (f fate) count(stat *relay.SpoolStat) {
	if f.over() {
		stat.Events--
	}
	if f.stuck {
		stat.Stuck++
	}
}

// waiting calls f for the rows of a statement whose entry still waits, until it is done. The first column is the entry's seq,
// by which the rows ascend, and the first parameter the seq behind which they begin.
func (u *unwritten) waiting(source string, st *sqlitefile.Stmt, f func(*sqlitefile.Stmt) (done bool, err error)) error {
	st.BindInt64(1, u.past[source])
	first := true
	return st.Until(func(st *sqlitefile.Stmt) (done bool, err error) {
		seq := st.ColumnInt64(0)
		if !u.fates[seq].over() {
			first = false
			return f(st)
		}
		if first {
			u.past[source] = seq
		}
		return false, nil
	})
}

// subjectOf returns the id of what an entry is about: of its event, or its task.
func subjectOf(a *relay.Accept, e *relay.Expectation) string {
	switch {
	case a != nil:
		return a.Event.ID
	case e != nil:
		return e.TaskID
	}
	return ""
}

// Remove implements relay.Spool.
func (s *Spool) Remove(items []*relay.Spooled) error {
	return s.settle(items, fate{stored: true})
}

// Refuse implements relay.Spool.
func (s *Spool) Refuse(item *relay.Spooled, reason string) (stuck bool, err error) {
	item.Refused++
	stuck = item.Err != nil || item.Refused >= relay.MaxRefused
	return stuck, s.settle([]*relay.Spooled{item}, fate{refused: item.Refused, stuck: stuck, reason: reason})
}

// settle notes what has become of entries, and writes it.
func (s *Spool) settle(items []*relay.Spooled, f fate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stat := *s.stat.Load()
	seqs := make([]int64, len(items))
	for i, item := range items {
		f.subject = subjectOf(item.Accept, item.Task)
		seqs[i], s.unwritten.fates[item.Seq] = item.Seq, f
		f.count(&stat)
	}
	_ = guard.Step(func() error { return s.findOldest(&stat) }) // or it is found when they are written
	s.stat.Store(&stat)
	return s.writeFates(seqs)
}

// writeUnwritten writes what has become of the oldest entries. They are neighbours in the file: the log needs room for each
// page that changes, and on a disk that is nearly full there may never be enough for as many pages as entries. The caller
// holds mu.
func (s *Spool) writeUnwritten() error {
	seqs := slices.Sorted(maps.Keys(s.unwritten.fates))
	return s.writeFates(seqs[:min(len(seqs), writtenAtOnce)])
}

// writeFates writes what has become of entries. It gives the room of an empty file back. The caller holds mu.
func (s *Spool) writeFates(seqs []int64) error {
	if err := s.transact(func(stat *relay.SpoolStat) error {
		for _, seq := range seqs {
			if f, ok := s.unwritten.fates[seq]; ok {
				if err := s.write(seq, f, stat); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, seq := range seqs {
		delete(s.unwritten.fates, seq)
	}
	if len(s.unwritten.fates) > 0 {
		return nil
	}
	s.unwritten = newUnwritten()
	if stat := s.stat.Load(); stat.Events+stat.Stuck == 0 {
		_ = s.db.Write(func() error { return s.db.Writer.Pragma("incremental_vacuum") }) // or the room is given back some other time
	}
	return nil
}

// write writes what has become of an entry.
func (s *Spool) write(seq int64, f fate, stat *relay.SpoolStat) error {
	if f.stored {
		st := s.db.Writer.Stmt("DELETE FROM item WHERE seq = +? RETURNING size")
		st.BindInt64(1, seq)
		return st.Each(func() { stat.Bytes -= st.ColumnInt64(0) })
	}
	st := s.db.Writer.Stmt("UPDATE item SET refused = ?, stuck = ?, reason = ? WHERE seq = +?")
	st.Bind(int64(f.refused), 0)
	if f.stuck {
		st.BindInt64(2, 1)
	}
	st.BindText(3, f.reason)
	st.BindInt64(4, seq)
	return st.Exec()
}

// findUnwritten forgets what a file that was opened anew has by then, or does not have as it was: somebody has cut its log, and
// another entry may have got the number.
func (s *Spool) findUnwritten() error {
	s.unwritten.past = map[string]int64{}
	for seq, f := range s.unwritten.fates {
		found := false
		st := s.db.Writer.Stmt("SELECT meta FROM item WHERE seq = +? AND stuck = 0")
		st.BindInt64(1, seq)
		if err := st.Each(func() {
			a, e, _ := decode("", st.ColumnBlob(0), nil, nil)
			found = subjectOf(a, e) == f.subject
		}); err != nil {
			return err
		}
		if !found {
			delete(s.unwritten.fates, seq)
		}
	}
	return nil
}
