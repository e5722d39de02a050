package sqlitestore

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/oklog/ulid/v2"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	// indexFrom is how many events memory indexes before they are moved to the tables: some 15 MB.
	indexFrom = 32 << 10
	// indexStep is how many rows one transaction moves, so that callbacks wait for no more than that.
	indexStep = 500
)

// recent indexes the newest events in memory, by key and by task. Both come in random order: a table would have a page
// written for each, which is most of what an accept would cost. The event's own row has all of it, so that nothing is
// lost with the memory; from time to time what has gathered is moved to the tables, sorted, many rows to a page.
type recent struct {
	// keys is guarded by Store.write, the others by Store.mem too.
	keys  map[recentKey]*first
	tasks map[string][]int64 // events, ascending
	order []*recentEvent     // ascending
}

type recentKey struct {
	source int64
	key    [32]byte
}

// first is the dedupe record of a key: what was accepted under it, and when.
type first struct {
	event       int64
	id          ulid.ULID
	fingerprint [32]byte
	at          int64
}

type recentEvent struct {
	seq  int64
	key  recentKey
	task string
	gone bool // purged
}

func newRecent() recent {
	return recent{keys: map[recentKey]*first{}, tasks: map[string][]int64{}}
}

// add takes an event whose key is in keys already. The caller holds mem.
func (r *recent) add(e *recentEvent) {
	r.tasks[e.task] = append(r.tasks[e.task], e.seq)
	r.order = append(r.order, e)
}

// find gives an event, or nil if it is not among the recent ones.
func (r *recent) find(seq int64) *recentEvent {
	i, ok := slices.BinarySearchFunc(r.order, seq, func(e *recentEvent, seq int64) int { return cmp.Compare(e.seq, seq) })
	if !ok {
		return nil
	}
	return r.order[i]
}

// dropTask forgets that a task has an event. The caller holds mem.
func (r *recent) dropTask(task string, seq int64) {
	left := slices.DeleteFunc(r.tasks[task], func(s int64) bool { return s == seq })
	if len(left) == 0 {
		delete(r.tasks, task)
	} else {
		r.tasks[task] = left
	}
}

// loadRecent reads what had not been moved to the tables when the process ended.
func (s *Store) loadRecent() error {
	indexed, err := s.meta("indexed")
	if err != nil {
		return err
	}
	st := s.conn.Prep("SELECT seq, source, key, task, id, fingerprint, accepted FROM event WHERE seq > ? ORDER BY seq")
	st.BindInt64(1, indexed)
	return each(st, func() {
		e := &recentEvent{seq: st.ColumnInt64(0), key: recentKey{source: st.ColumnInt64(1)}, task: st.ColumnText(3)}
		st.ColumnBytes(2, e.key.key[:])
		f := &first{event: e.seq, at: st.ColumnInt64(6)}
		st.ColumnBytes(4, f.id[:])
		st.ColumnBytes(5, f.fingerprint[:])
		s.recent.keys[e.key] = f
		s.recent.add(e)
	})
}

// index moves what has gathered in memory to the tables, if that is enough to be worth it.
func (s *Store) index() error {
	s.mem.Lock()
	batch := slices.Clone(s.recent.order)
	s.mem.Unlock()
	if len(batch) < indexFrom {
		return nil
	}
	slices.SortFunc(batch, func(a, b *recentEvent) int {
		return cmp.Or(cmp.Compare(a.key.source, b.key.source), bytes.Compare(a.key.key[:], b.key.key[:]), cmp.Compare(a.seq, b.seq))
	})
	if err := s.moveAll(batch, s.moveKey); err != nil {
		return err
	}
	slices.SortFunc(batch, func(a, b *recentEvent) int { return cmp.Or(cmp.Compare(a.task, b.task), cmp.Compare(a.seq, b.seq)) })
	if err := s.moveAll(batch, s.moveTask); err != nil {
		return err
	}
	s.write.Lock()
	defer s.write.Unlock()
	if s.closed {
		return nil // what was moved is moved again
	}
	last := int64(0)
	for _, e := range batch {
		last = max(last, e.seq)
	}
	if err := s.transact(nil, func() error { return s.setMeta("indexed", last) }); err != nil {
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	for _, e := range batch {
		s.recent.dropTask(e.task, e.seq)
		if f := s.recent.keys[e.key]; f != nil && f.event == e.seq {
			delete(s.recent.keys, e.key)
		}
	}
	s.recent.order = slices.Clone(s.recent.order[len(batch):])
	return nil
}

// moveAll moves a sorted batch in small transactions. What is moved twice, after a crash, is the same.
func (s *Store) moveAll(batch []*recentEvent, move func(*recentEvent) error) error {
	for chunk := range slices.Chunk(batch, indexStep) {
		if s.isClosing() {
			return nil
		}
		s.write.Lock()
		err := s.transact(nil, func() error {
			for _, e := range chunk {
				if e.gone {
					continue
				}
				if err := move(e); err != nil {
					return err
				}
			}
			return nil
		})
		s.write.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// moveKey writes the record of an event's key, unless a later event has the key by now or its window has ended.
func (s *Store) moveKey(e *recentEvent) error {
	f := s.recent.keys[e.key]
	if f == nil || f.event != e.seq {
		return nil
	}
	return s.insertKey(e.key, f)
}

func (s *Store) insertKey(k recentKey, f *first) error {
	st := s.conn.Prep("INSERT OR REPLACE INTO dedupe (source, key, event, id, fingerprint, at) VALUES (?, ?, ?, ?, ?, ?)")
	st.BindInt64(1, k.source)
	st.BindBytes(2, k.key[:])
	st.BindInt64(3, f.event)
	st.BindBytes(4, f.id[:])
	st.BindBytes(5, f.fingerprint[:])
	st.BindInt64(6, f.at)
	return exec(st)
}

func (s *Store) moveTask(e *recentEvent) error {
	st := s.conn.Prep("INSERT OR IGNORE INTO task (task, event) VALUES (?, ?)")
	st.BindText(1, e.task)
	st.BindInt64(2, e.seq)
	return exec(st)
}

// remembered gives the dedupe record of a key; nil if there is none after the time given. The caller holds write.
func (s *Store) remembered(k recentKey, after int64) (*first, error) {
	f := s.recent.keys[k]
	if f == nil {
		st := s.conn.Prep("SELECT event, id, fingerprint, at FROM dedupe WHERE source = ? AND key = ?")
		st.BindInt64(1, k.source)
		st.BindBytes(2, k.key[:])
		if err := each(st, func() {
			f = &first{event: st.ColumnInt64(0), at: st.ColumnInt64(3)}
			st.ColumnBytes(1, f.id[:])
			st.ColumnBytes(2, f.fingerprint[:])
		}); err != nil {
			return nil, err
		}
	}
	if f == nil || f.at <= after {
		return nil, nil
	}
	return f, nil
}

// eventsOf gives the newest events of a task before a sequence, newest first.
func (s *Store) eventsOf(c *sqlite.Conn, task string, before int64) ([]int64, error) {
	s.mem.Lock()
	events := slices.Clone(s.recent.tasks[task])
	s.mem.Unlock()
	events = slices.DeleteFunc(events, func(seq int64) bool { return seq >= before })
	err := sqlitex.Execute(c, "SELECT event FROM task WHERE task = ? AND event < ? ORDER BY event DESC LIMIT ?", &sqlitex.ExecOptions{
		Args:       []any{task, before, scanned},
		ResultFunc: func(st *sqlite.Stmt) error { events = append(events, st.ColumnInt64(0)); return nil },
	})
	slices.Sort(events)
	events = slices.Compact(events) // what is being moved is in both
	slices.Reverse(events)
	return events[:min(len(events), scanned)], err
}
