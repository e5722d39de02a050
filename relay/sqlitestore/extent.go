package sqlitestore

import (
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

const (
	extentEvents = 512 // that an extent has
	extentsAPage = 20  // that one page of a list looks into
)

// extent is a range of the sequence, with the times between which its events were received, and their sources. A list passes
// over those that have nothing for it. It cannot look for the place where a time begins: lists are in the order of the
// sequence, in which times only nearly ascend, since a wall clock may have been set and a callback may have waited.
//
// Extents are written with the run of their events. Those of recent events are made when they are needed, and what a file of
// an older version has no extent of is looked at.
type extent struct {
	first, last      int64
	earliest, latest int64
	sources          int64 // a set of sourceBit
}

// everything is an extent of which nothing is known.
func everything(first, last int64) extent {
	return extent{first: first, last: last, latest: never, sources: -1}
}

func (x *extent) unknown() bool { return x.sources == -1 }

// sourceBit is the set of one source. It may be that of some others too.
func sourceBit(source int64) int64 { return 1 << (uint64(source) % 64) }

// extentsOf returns the extents of events that are in the order of the sequence.
func extentsOf(events []recentEvent) (extents []extent) {
	for some := range slices.Chunk(events, extentEvents) {
		x := extent{first: some[0].seq, last: some[len(some)-1].seq, earliest: never}
		for i := range some {
			x.earliest, x.latest = min(x.earliest, some[i].received), max(x.latest, some[i].received)
			x.sources |= sourceBit(some[i].source)
		}
		extents = append(extents, x)
	}
	return extents
}

// writeExtents writes the extents of events, in the transaction of their run.
func (s *Store) writeExtents(events []recentEvent) error {
	for _, x := range extentsOf(events) {
		st := s.db.Writer.Stmt("INSERT INTO extent (first, last, earliest, latest, sources) VALUES (?, ?, ?, ?, ?)")
		st.Bind(x.first, x.last, x.earliest, x.latest, x.sources)
		if err := st.Exec(); err != nil {
			return err
		}
	}
	return nil
}

// deleteExtents deletes some that are before the first event.
const deleteExtents = `DELETE FROM extent WHERE first IN (SELECT first FROM extent
	WHERE last < (SELECT coalesce(min(seq), 0) FROM event) ORDER BY first LIMIT ?)`

// dropExtents deletes the extents of events that have been purged.
func (s *Store) dropExtents() error {
	return s.besides().transact(func() error {
		st := s.db.Writer.Stmt(deleteExtents)
		st.BindInt64(1, relay.MaxTouched)
		return st.Exec()
	})
}

// sought holds what a filter asks of the extents that events of its list may be in.
type sought struct {
	since, until int64
	sources      int64 // a set of sourceBit; empty if no event can be in the list
}

func (s *Store) sought(f *relay.EventFilter) (q sought) {
	q.since, q.until = span(f.Since, f.Until)
	q.sources = -1
	s.mem.Lock()
	defer s.mem.Unlock()
	if f.Source != "" {
		q.sources = 0
		if source, known := s.sources[f.Source]; known {
			q.sources = sourceBit(source)
		}
	}
	to, in := int64(0), int64(0) // the sources with such a destination, and with deliveries in such a state
	for _, d := range s.byID {
		if f.Source != "" && f.Source != d.source {
			continue
		}
		if f.Destination == d.name {
			to |= sourceBit(d.sourceID)
		}
		if f.State == relay.StatePending && d.pending > 0 || f.State == relay.StateDead && d.dead > 0 {
			in |= sourceBit(d.sourceID)
		}
	}
	if f.Destination != "" {
		q.sources &= to
	}
	if f.State == relay.StatePending || f.State == relay.StateDead {
		q.sources &= in
	}
	return q
}

func (q *sought) all() bool { return q.since == 0 && q.until == never && q.sources == -1 }

func (q *sought) in(x *extent) bool {
	return x.latest >= q.since && x.earliest < q.until && x.sources&q.sources != 0
}

// The extents of a list, without a look at those before the one that it begins in: they ascend by last, too.
const (
	extentsIn = `SELECT first, last FROM extent WHERE first >= coalesce((SELECT max(first) FROM extent WHERE first <= ?2), 0)
	AND first <= ?1 AND last >= ?2 AND latest >= ?3 AND earliest < ?4 AND sources & ?5 <> 0 ORDER BY first `
	newestExtents = extentsIn + "DESC LIMIT 0 + ?6"
	oldestExtents = extentsIn + "LIMIT 0 + ?6"
)

// extents returns the extents in which a list goes on after an event, in its order: the first of them, if there are more than
// most; all if that is negative.
func (s *Store) extents(c *sqlitefile.Conn, q *sought, from int64, oldest bool, most int64) ([]extent, error) {
	low, high := int64(0), from-1
	if oldest {
		low, high = from+1, never
	}
	if q.all() {
		return []extent{everything(low, high)}, nil
	}
	s.mem.Lock() // before the snapshot begins: what becomes a run meanwhile is in both
	since, recent := s.recent.since, s.recent.events
	s.mem.Unlock()
	var all []extent
	first, err := c.Stmt("SELECT coalesce(min(first), 0) FROM extent").Int64()
	if err != nil {
		return nil, err
	}
	if first == 0 || first > since {
		first = since + 1
	}
	st := c.Stmt("SELECT 1 FROM event WHERE seq < ?")
	st.BindInt64(1, first)
	if unknown, err := st.Exists(); err != nil {
		return nil, err
	} else if unknown {
		all = append(all, everything(0, first-1))
	}
	query := newestExtents
	if oldest {
		query = oldestExtents
	}
	st, old := c.Stmt(query), len(all)
	st.Bind(min(high, since), low, q.since, q.until, q.sources, most)
	if err := st.Each(func() { all = append(all, extent{first: st.ColumnInt64(0), last: st.ColumnInt64(1)}) }); err != nil {
		return nil, err
	}
	if !oldest {
		slices.Reverse(all[old:])
	}
	for _, x := range extentsOf(recent) {
		if since = x.last; q.in(&x) {
			all = append(all, x)
		}
	}
	st = c.Stmt("SELECT 1 FROM event WHERE seq > ?")
	st.BindInt64(1, since)
	if accepted, err := st.Exists(); err != nil { // meanwhile
		return nil, err
	} else if accepted {
		all = append(all, everything(since+1, never))
	}
	var bounded []extent
	for _, x := range all {
		if x.first, x.last = max(x.first, low), min(x.last, high); x.first <= x.last {
			bounded = append(bounded, x)
		}
	}
	if !oldest {
		slices.Reverse(bounded)
	}
	return bounded, nil
}

// end is the event after which a list goes on behind the extent.
func (x *extent) end(oldest bool) int64 {
	if oldest {
		return x.last
	}
	return x.first
}

// Where the events of a list are, within an extent.
const (
	inExtent    = " FROM event WHERE seq >= ?1 AND seq <= ?2 AND 1 << (source & 63) & ?3 <> 0 AND received >= ?4 AND received < ?5 "
	newestFirst = inExtent + "ORDER BY seq DESC LIMIT 0 + ?6"
	oldestFirst = inExtent + "ORDER BY seq LIMIT 0 + ?6"
)

// stmt returns a statement that reads the events of an extent that a list may have: all of them where there may be any number,
// so that who reads them can stop.
func (x *extent) stmt(c *sqlitefile.Conn, q *sought, oldest bool) *sqlitefile.Stmt {
	query := "SELECT " + eventColumns + newestFirst
	if oldest {
		query = "SELECT " + eventColumns + oldestFirst
	}
	st := c.Stmt(query)
	if x.unknown() {
		st.Bind(x.first, x.last, -1, -never, never, scanned)
	} else {
		st.Bind(x.first, x.last, q.sources, q.since, q.until, scanned)
	}
	return st
}
