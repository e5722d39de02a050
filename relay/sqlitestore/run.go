package sqlitestore

import (
	"encoding/binary"
	"slices"

	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// What a run finds events by.
const (
	byKey = iota
	byTask
	byID
	kinds
)

const (
	hashBits  = 39
	placeBits = 24
	// longestRun is how many events the range of a run may have, so that an entry is a positive number of 64 bits.
	longestRun = 1 << placeBits
	// pageEntries fill an overflow page of SQLite and an eighth of a leaf.
	pageEntries = 560
)

// run has an entry for each event of a range of the sequence, for each kind: a part of a hash, and the place in the range.
// The entries of a kind are sorted, and many stand in one row. What is found by them is compared with the event's own row,
// which may be gone or have another key with that hash.
//
// A table with a row for each would be written all over, a page for nearly every event, since hashes come in no order.
type run struct {
	id          int64
	first, last int64
	events      int64 // how many it finds
	newest      int64 // when its last event was accepted
	// The times in the ids of its events. They ascend with the sequence but for clocks that were set and accepts that were
	// tried again, so that most runs need not be looked at for an id.
	earliest, latest int64

	filter filter // of its keys; nil unless it was needed lately
	used   bool
}

// short is the part of a hash that an entry has.
func short(hash uint64) uint64 { return hash >> (64 - hashBits) }

func (r *run) entry(hash uint64, event int64) int64 {
	return int64(short(hash)<<placeBits | uint64(event-r.first))
}

func (r *run) eventOf(entry int64) int64 { return r.first + entry&(1<<placeBits-1) }

// find returns up to limit events with a hash between two others, which are not among them: the newest first, or the
// oldest.
func (r *run) find(c *sqlitefile.Conn, kind int64, hash uint64, after, before int64, oldest bool, limit int) (events []int64, err error) {
	after, before = max(after, r.first-1), min(before, r.last+1)
	if before <= after+1 {
		return nil, nil
	}
	from, to := r.entry(hash, after+1), r.entry(hash, before-1) // both of them included
	query := pagesBackward
	if oldest {
		query = pagesForward
	}
	st := c.Stmt(query)
	st.Bind(r.id, kind, from, to)
	err = st.Until(func(st *sqlitefile.Stmt) (bool, error) {
		low, entries := st.ColumnInt64(0), decodeEntries(st.ColumnBlob(1))
		begin, _ := slices.BinarySearch(entries, from)
		end, there := slices.BinarySearch(entries, to)
		if there {
			end++
		}
		found := entries[begin:max(begin, end)]
		if !oldest {
			slices.Reverse(found)
		}
		for _, e := range found {
			if len(events) == limit {
				break
			}
			events = append(events, r.eventOf(e))
		}
		return len(events) == limit || !oldest && low <= from, nil
	})
	return events, err
}

// The pages that may have entries from ?3 to ?4. One that begins before ?3 may end behind it.
const (
	pagesBackward = "SELECT low, entries FROM run_page WHERE run = +?1 AND kind = +?2 AND low <= +?4 ORDER BY low DESC"
	pagesForward  = `SELECT low, entries FROM run_page WHERE run = +?1 AND kind = +?2
		AND low >= coalesce((SELECT max(low) FROM run_page WHERE run = +?1 AND kind = +?2 AND low <= +?3), 0) AND low <= +?4 ORDER BY low`
)

func encodeEntries(entries []int64) []byte {
	b := make([]byte, 0, 8*len(entries))
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, uint64(e))
	}
	return b
}

func decodeEntries(b []byte) []int64 {
	entries := make([]int64, len(b)/8)
	for i := range entries {
		entries[i] = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return entries
}

// runColumns lists the columns that readRun reads.
const runColumns = "SELECT id, first, last, events, newest, earliest, latest FROM run "

// runsOf returns the runs that a statement selects.
func runsOf(st *sqlitefile.Stmt) (runs []*run, err error) {
	err = st.Each(func() {
		runs = append(runs, &run{
			id: st.ColumnInt64(0), first: st.ColumnInt64(1), last: st.ColumnInt64(2), events: st.ColumnInt64(3), newest: st.ColumnInt64(4),
			earliest: st.ColumnInt64(5), latest: st.ColumnInt64(6),
		})
	})
	return runs, err
}

// mayHave reports whether a run may have a key, whose filter it reads when that is first needed. The caller holds write.
func (s *Store) mayHave(r *run, hash uint64) (bool, error) {
	r.used = true
	if r.filter == nil {
		st := s.db.Writer.Stmt("SELECT filter FROM run WHERE id = ?")
		st.BindInt64(1, r.id)
		if err := st.Each(func() { r.filter = st.ColumnBlob(0) }); err != nil {
			return false, err
		}
	}
	return r.filter.mayHave(short(hash)), nil
}
