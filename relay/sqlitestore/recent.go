package sqlitestore

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

const (
	// indexFrom is how many events memory indexes before they are moved to the tables: some 5 MB.
	indexFrom = 32 << 10
	// indexStep is how many rows one transaction moves, so that callbacks wait for no more than that.
	indexStep = 500
)

// recent indexes the newest events in memory, by key and by task. Both come in random order: a table would have a page
// written for each, which is most of what an accept would cost. The event's own row has all of it, so that nothing is
// lost with the memory; from time to time what has gathered is moved to the tables, sorted, many rows to a page.
//
// There are few pointers in it, of which the garbage collector would follow each, again and again.
type recent struct {
	// since is the last event that the tables have. It and keys are guarded by Store.write, the others by Store.mem too.
	since int64
	keys  map[recentKey]first
	gone  map[int64]bool // purged since the tables are being filled; nil at other times
	// tasks has the newest event of the tasks whose name has a hash, earlier the one before an event in that.
	tasks   map[int64]int64
	earlier map[int64]int64
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

// recentEvent holds what the tables keep of an event.
type recentEvent struct {
	seq  int64
	key  recentKey
	task int64 // the hash of its name
}

func newRecent() recent {
	return recent{keys: map[recentKey]first{}, tasks: map[int64]int64{}, earlier: map[int64]int64{}}
}

// hash is that of a key in the table dedupe.
func (k recentKey) hash() int64 { return int64(binary.BigEndian.Uint64(k.key[:])) }

// taskHash is that of a task's name in the table task.
func taskHash(task string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(task)) // a hash takes all
	return int64(h.Sum64())
}

// add enters an event of a task, whose key is in keys already. The caller holds mem.
func (r *recent) add(task, seq int64) {
	if before, ok := r.tasks[task]; ok {
		r.earlier[seq] = before
	}
	r.tasks[task] = seq
}

// of returns the events of a task, newest first, among them perhaps some of another task or some that are gone. The caller
// holds mem.
func (r *recent) of(task string) (events []int64) {
	for seq := r.tasks[taskHash(task)]; seq != 0; seq = r.earlier[seq] {
		events = append(events, seq)
	}
	return events
}

// forget drops what the tables have by now: all events up to a sequence. The caller holds mem.
func (r *recent) forget(last int64) {
	r.since, r.gone = last, nil
	maps.DeleteFunc(r.keys, func(_ recentKey, f first) bool { return f.event <= last })
	maps.DeleteFunc(r.tasks, func(_, seq int64) bool { return seq <= last })
	maps.DeleteFunc(r.earlier, func(seq, before int64) bool { return seq <= last || before <= last })
}

const recentColumns = "seq, source, key, task, id, fingerprint, accepted FROM event WHERE seq > ? ORDER BY seq"

func readRecent(st *sqlitefile.Stmt) (e recentEvent, f first) {
	e = recentEvent{seq: st.ColumnInt64(0), key: recentKey{source: st.ColumnInt64(1)}, task: taskHash(st.ColumnText(3))}
	st.ColumnBytes(2, e.key.key[:])
	f = first{event: e.seq, at: st.ColumnInt64(6)}
	st.ColumnBytes(4, f.id[:])
	st.ColumnBytes(5, f.fingerprint[:])
	return e, f
}

// loadRecent reads what had not been moved to the tables when the process ended.
func (s *Store) loadRecent(r *recent) (err error) {
	if r.since, err = s.meta("indexed"); err != nil {
		return err
	}
	st := s.db.Writer.Stmt("SELECT " + recentColumns)
	st.BindInt64(1, r.since)
	return st.Each(func() {
		e, f := readRecent(st)
		r.keys[e.key] = f
		r.add(e.task, e.seq)
	})
}

// index moves what has gathered in memory to the tables, if that is enough to be worth it. It reads through c.
func (s *Store) index(c *sqlitefile.Conn) error {
	s.write.Lock()
	since, gathered := s.recent.since, s.nextSeq-1-s.recent.since
	if gathered < s.indexFrom {
		s.write.Unlock()
		return nil
	}
	s.recent.gone = map[int64]bool{}
	s.write.Unlock()
	batch := make([]recentEvent, 0, gathered)
	st := c.Stmt("SELECT " + recentColumns)
	st.BindInt64(1, since)
	if err := st.Each(func() {
		e, _ := readRecent(st)
		batch = append(batch, e)
	}); err != nil {
		return err
	}
	last := since + gathered
	if n := len(batch); n > 0 {
		last = batch[n-1].seq
	}
	slices.SortFunc(batch, func(a, b recentEvent) int { return cmp.Compare(a.key.hash(), b.key.hash()) })
	if err := s.moveAll(batch, s.moveKey); err != nil {
		return err
	}
	slices.SortFunc(batch, func(a, b recentEvent) int { return cmp.Compare(a.task, b.task) })
	if err := s.moveAll(batch, s.moveTask); err != nil {
		return err
	}
	s.write.Lock()
	defer s.write.Unlock()
	if s.closed {
		return nil // what was moved is moved again
	}
	if err := s.transact(nil, func() error { return s.setMeta("indexed", last) }); err != nil {
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	s.recent.forget(last)
	return nil
}

// moveAll moves a sorted batch in small transactions. What is moved twice, after a crash, is the same.
func (s *Store) moveAll(batch []recentEvent, move func(*recentEvent) error) error {
	for chunk := range slices.Chunk(batch, indexStep) {
		if s.closing() != nil {
			return nil
		}
		s.write.Lock()
		err := s.transact(nil, func() error {
			for i := range chunk {
				if err := move(&chunk[i]); err != nil {
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

// moveKey notes that a key has an event, unless a later one has it by now or the event has been purged meanwhile.
func (s *Store) moveKey(e *recentEvent) error {
	if s.recent.keys[e.key].event != e.seq {
		return nil
	}
	st := s.db.Writer.Stmt("INSERT OR IGNORE INTO dedupe (hash, event) VALUES (?, ?)")
	st.Bind(e.key.hash(), e.seq)
	return st.Exec()
}

// moveTask notes that a task has an event, unless that has been purged meanwhile.
func (s *Store) moveTask(e *recentEvent) error {
	if s.recent.gone[e.seq] {
		return nil
	}
	st := s.db.Writer.Stmt("INSERT OR IGNORE INTO task (hash, event) VALUES (?, ?)")
	st.Bind(e.task, e.seq)
	return st.Exec()
}

// remembered returns the dedupe record of a key; nil if there is none after the time given. The caller holds write.
func (s *Store) remembered(k recentKey, after int64) (*first, error) {
	if f, ok := s.recent.keys[k]; ok && f.at > after {
		return &f, nil
	}
	st := s.db.Writer.Stmt("SELECT event FROM dedupe WHERE hash = +? ORDER BY event DESC") // the usual key has none
	st.BindInt64(1, k.hash())
	var events []int64
	if err := st.Each(func() { events = append(events, st.ColumnInt64(0)) }); err != nil {
		return nil, err
	}
	for _, event := range events {
		st := s.db.Writer.Stmt("SELECT seq, id, fingerprint, accepted FROM event WHERE seq = ? AND source = ? AND key = ?")
		if f, err := readFirst(st, k, event, k.source); err != nil || f != nil && f.at > after {
			return f, err
		}
	}
	if !s.outlived {
		return nil, nil
	}
	st = s.db.Writer.Stmt("SELECT event, id, fingerprint, at FROM outlived WHERE source = ? AND key = ?")
	if f, err := readFirst(st, k, k.source); err != nil || f != nil && f.at > after {
		return f, err
	}
	return nil, nil
}

// readFirst returns the first row of a statement with these parameters, and the key as the last; nil if there is none.
func readFirst(st *sqlitefile.Stmt, k recentKey, params ...int64) (f *first, err error) {
	st.Bind(params...)
	st.BindBytes(len(params)+1, k.key[:])
	err = st.Until(func(st *sqlitefile.Stmt) (bool, error) {
		f = &first{event: st.ColumnInt64(0), at: st.ColumnInt64(3)}
		st.ColumnBytes(1, f.id[:])
		st.ColumnBytes(2, f.fingerprint[:])
		return true, nil
	})
	return f, err
}

// Where the events of a task are in the table, from one that a list goes on after.
const (
	newestOfTask = "SELECT event FROM task WHERE hash = ? AND event < ? ORDER BY event DESC LIMIT ?"
	oldestOfTask = "SELECT event FROM task WHERE hash = ? AND event > ? ORDER BY event LIMIT ?"
)

// eventsOf returns the next events of a task in a list that goes on after one of them, as many as one page looks at. Some may
// be of another task, or gone.
func (s *Store) eventsOf(c *sqlitefile.Conn, task string, from int64, oldest bool) ([]int64, error) {
	query, passed := newestOfTask, func(seq int64) bool { return seq >= from }
	if oldest {
		query, passed = oldestOfTask, func(seq int64) bool { return seq <= from }
	}
	s.mem.Lock()
	events := slices.DeleteFunc(s.recent.of(task), passed)
	s.mem.Unlock()
	st := c.Stmt(query)
	st.Bind(taskHash(task), from, scanned)
	err := st.Each(func() { events = append(events, st.ColumnInt64(0)) })
	slices.Sort(events)
	events = slices.Compact(events) // what is being moved is in both
	if !oldest {
		slices.Reverse(events)
	}
	return events[:min(len(events), scanned)], err
}
