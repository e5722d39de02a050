package sqlitestore

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"sort"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// indexFrom is how many events memory finds before they are written as a run: some 5 MB.
const indexFrom = 32 << 10

// recent finds the newest events in memory, by key, task and id. The event's own row has all of it, so that nothing is lost
// with the memory; from time to time what has gathered is written as a run.
//
// There are few pointers in it, of which the garbage collector would follow each, again and again.
type recent struct {
	// since is the last event that is in a run. It and keys are guarded by Store.write, the others by Store.mem too.
	since  int64
	keys   map[recentKey]first
	ids    map[ulid.ULID]int64
	events []recentEvent // in the order of the sequence; what was added never changes
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

// recentEvent holds what a run keeps of an event.
type recentEvent struct {
	seq, at int64
	made    int64 // the time in its id
	hashes  [kinds]uint64

	received, source int64 // for its extent
}

func newRecent() recent { return recent{keys: map[recentKey]first{}, ids: map[ulid.ULID]int64{}} }

func newRecentEvent(f *first, k recentKey, task string, received int64) recentEvent {
	return recentEvent{
		f.event, f.at, int64(f.id.Time()),
		[kinds]uint64{byKey: k.hash(), byTask: taskHash(task), byID: idHash(f.id)},
		received, k.source,
	}
}

// hash is that of a key in a run.
func (k recentKey) hash() uint64 { return binary.BigEndian.Uint64(k.key[:]) }

// taskHash is that of a task's name in a run.
func taskHash(task string) uint64 { return hashOf([]byte(task)) }

// idHash is that of an event's id in a run.
func idHash(id ulid.ULID) uint64 { return hashOf(id[:]) }

func hashOf(b []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(b) // a hash takes all
	n := h.Sum64()
	return (n ^ n>>32) * 0xd6e8feb86659fd93 // so that the upper bits, of which an entry is made, depend on all
}

// add enters an event whose key is in keys already. The caller holds mem.
func (r *recent) add(e recentEvent) { r.events = append(r.events, e) }

// of returns the events of a task, oldest first, among them perhaps some of another task or some that are gone. The caller
// holds mem.
func (r *recent) of(task string) (events []int64) {
	hash := taskHash(task)
	for i := range r.events {
		if r.events[i].hashes[byTask] == hash {
			events = append(events, r.events[i].seq)
		}
	}
	return events
}

// forget drops what a run finds by now: all events up to a sequence. The caller holds mem.
func (r *recent) forget(last int64) {
	r.since = last
	maps.DeleteFunc(r.keys, func(_ recentKey, f first) bool { return f.event <= last })
	maps.DeleteFunc(r.ids, func(_ ulid.ULID, seq int64) bool { return seq <= last })
	r.events = slices.Clone(slices.DeleteFunc(slices.Clone(r.events), func(e recentEvent) bool { return e.seq <= last }))
}

// readRecent reads up to some events that come after another one, in the order of their sequence.
func (s *Store) readRecent(after, most int64, take func(f first, k recentKey, e recentEvent)) error {
	st := s.db.Writer.Stmt("SELECT seq, source, key, task, id, fingerprint, accepted, received FROM event WHERE seq > ? ORDER BY seq LIMIT ?")
	st.Bind(after, most)
	return st.Each(func() {
		k := recentKey{source: st.ColumnInt64(1)}
		st.ColumnBytes(2, k.key[:])
		f := first{event: st.ColumnInt64(0), at: st.ColumnInt64(6)}
		st.ColumnBytes(4, f.id[:])
		st.ColumnBytes(5, f.fingerprint[:])
		take(f, k, newRecentEvent(&f, k, st.ColumnText(3), st.ColumnInt64(7)))
	})
}

// loadRecent reads the events that no run finds. Where there are many, since the file is of an older version, runs are
// written first. The caller holds write, or is the only one.
func (s *Store) loadRecent() error {
	since, err := s.meta("indexed")
	if err != nil {
		return err
	}
	for s.newest-since >= s.indexFrom {
		var events []recentEvent
		if err := s.readRecent(since, longestMerged, func(_ first, _ recentKey, e recentEvent) {
			events = append(events, e)
		}); err != nil {
			return err
		}
		if len(events) == 0 {
			break // they have been purged
		}
		if err := s.writeRecent(s.alreadyAlone(), events); err != nil {
			return err
		}
		since = s.recent.since
	}
	r := newRecent()
	r.since = since
	if err := s.readRecent(since, never, func(f first, k recentKey, e recentEvent) {
		r.keys[k], r.ids[f.id] = f, f.event
		r.add(e)
	}); err != nil {
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	s.recent = r
	return nil
}

// index writes what has gathered in memory as a run, if that is enough to be worth it. It reads through c.
func (s *Store) index(c *sqlitefile.Conn) error {
	s.write.Lock()
	events := s.recent.events
	s.write.Unlock()
	if int64(len(events)) < s.indexFrom {
		return nil
	}
	if err := s.writeRecent(s.besides(), events); err != nil {
		return err
	}
	return s.tendRuns(c)
}

// writeRecent writes events as a run, so that memory need not find them any more: all of them, unless they are so far apart
// that a run cannot have them.
func (s *Store) writeRecent(w runWriter, events []recentEvent) error {
	n := sort.Search(len(events), func(i int) bool { return events[i].seq >= events[0].seq+longestRun })
	events = events[:n]
	r := &run{first: events[0].seq, last: events[n-1].seq, events: int64(n), newest: events[n-1].at, earliest: never}
	for i := range events {
		r.earliest, r.latest = min(r.earliest, events[i].made), max(r.latest, events[i].made)
	}
	entries := func(kind int) ([]int64, error) {
		list := make([]int64, n)
		for i := range events {
			list[i] = r.entry(events[i].hashes[kind], events[i].seq)
		}
		return list, nil
	}
	return w.write(r, entries, nil, func() error {
		return errors.Join(s.writeExtents(events[:n]), s.setMeta("indexed", r.last))
	}, func() {
		s.mem.Lock()
		defer s.mem.Unlock()
		s.recent.forget(r.last)
	})
}

// remembered returns the dedupe record of a key; nil if there is none after the time given. The caller holds write.
func (s *Store) remembered(k recentKey, after int64) (*first, error) {
	if f, ok := s.recent.keys[k]; ok && f.at > after {
		return &f, nil
	}
	for _, r := range slices.Backward(s.runs) {
		if r.newest <= after {
			break // acceptance ascends with the sequence
		}
		if may, err := s.mayHave(r, k.hash()); err != nil {
			return nil, err
		} else if !may { // which is the usual
			continue
		}
		events, err := r.find(s.db.Writer, byKey, k.hash(), 0, never, false, scanned)
		if err != nil {
			return nil, err
		}
		for _, event := range events {
			st := s.db.Writer.Stmt("SELECT seq, id, fingerprint, accepted FROM event WHERE seq = ? AND source = ? AND key = ?")
			if f, err := readFirst(st, k, event, k.source); err != nil || f != nil && f.at > after {
				return f, err
			}
		}
	}
	if !s.outlived {
		return nil, nil
	}
	st := s.db.Writer.Stmt("SELECT event, id, fingerprint, at FROM outlived WHERE source = ? AND key = ?")
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

// eventsOf returns the next events of a task in a list that goes on after one of them, as many as one page looks at. Some may
// be of another task, or gone.
func (s *Store) eventsOf(c *sqlitefile.Conn, task string, from int64, oldest bool) (events []int64, err error) {
	after, before, order := int64(0), from, "ORDER BY first DESC"
	if oldest {
		after, before, order = from, never, "ORDER BY first"
	}
	s.mem.Lock() // before the snapshot begins: what becomes a run meanwhile is in both
	since := s.recent.since
	newest := slices.DeleteFunc(s.recent.of(task), func(seq int64) bool { return seq <= after || seq >= before })
	s.mem.Unlock()
	runs, err := runsOf(c.Stmt(runColumns + order))
	if err != nil {
		return nil, err
	}
	if !oldest {
		slices.Reverse(newest)
		events = newest
	}
	for _, r := range runs {
		found, err := r.find(c, byTask, taskHash(task), after, min(before, since+1), oldest, scanned)
		if err != nil {
			return nil, err
		}
		if events = append(events, found...); len(events) >= scanned {
			break
		}
	}
	if oldest {
		events = append(events, newest...)
	}
	return events[:min(len(events), scanned)], nil
}

// seqOf returns the sequence of the event that has an id; 0 if there is none. It is among those that the runs find, or the
// recent one with that id, if there is such.
func seqOf(c *sqlitefile.Conn, id ulid.ULID, recent int64, runs []*run) (int64, error) {
	if recent != 0 {
		if there, err := hasID(c, recent, id); there || err != nil {
			return recent, err
		}
	}
	for _, r := range slices.Backward(runs) {
		if made := int64(id.Time()); made < r.earliest || made > r.latest {
			continue
		}
		events, err := r.find(c, byID, idHash(id), 0, never, false, scanned)
		if err != nil {
			return 0, err
		}
		for _, event := range events {
			if there, err := hasID(c, event, id); there || err != nil {
				return event, err
			}
		}
	}
	return 0, nil
}

func hasID(c *sqlitefile.Conn, event int64, id ulid.ULID) (bool, error) {
	st := c.Stmt("SELECT 1 FROM event WHERE seq = ? AND id = ?")
	st.BindInt64(1, event)
	st.BindBytes(2, id[:])
	return st.Exists()
}
