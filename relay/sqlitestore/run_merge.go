package sqlitestore

import (
	"errors"
	"slices"

	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// longestMerged is how many events the range of a run may have that is merged with others: eight such have two million,
// whose entries of one kind take 16 MiB of memory meanwhile.
const longestMerged = 8 * indexFrom

// tendRuns merges runs of which there are many, and drops entries of events that have been purged. It reads through c.
func (s *Store) tendRuns(c *sqlitefile.Conn) error {
	for {
		runs := s.toMerge()
		if runs == nil {
			break
		}
		if err := s.merge(c, runs, nil); err != nil {
			return err
		}
	}
	return errors.Join(s.thin(c), s.dropExtents())
}

// toMerge returns the newest runs if they are of about one length. Older ones are longer, since they were merged before.
func (s *Store) toMerge() []*run {
	s.write.Lock()
	defer s.write.Unlock()
	for _, r := range s.runs {
		if !r.used {
			r.filter = nil // its window has ended
		}
		r.used = false
	}
	if len(s.runs) < mergedRuns {
		return nil
	}
	newest := slices.Clone(s.runs[len(s.runs)-mergedRuns:])
	longest := newest[0].length()
	if newest[mergedRuns-1].last-newest[0].first >= longestRun || longest > longestMerged || longest > mergedRuns/2*newest[mergedRuns-1].length() {
		return nil
	}
	return newest
}

func (r *run) length() int64 { return r.last - r.first + 1 }

// merge writes one run in place of others that follow each other, with the entries of the events that live; nil: of all.
func (s *Store) merge(c *sqlitefile.Conn, runs []*run, live map[int64]bool) error {
	merged := *runs[0]
	merged.events = 0
	for _, r := range runs {
		merged.last, merged.newest = r.last, r.newest
		merged.events += r.events
		merged.earliest, merged.latest = min(merged.earliest, r.earliest), max(merged.latest, r.latest)
	}
	if live != nil {
		merged.events = int64(len(live))
	}
	entries := func(kind int) (list []int64, err error) {
		for _, r := range runs {
			st := c.Stmt("SELECT entries FROM run_page WHERE run = ? AND kind = ?")
			st.Bind(r.id, int64(kind))
			if err := st.Each(func() {
				for _, e := range decodeEntries(st.ColumnBlob(0)) {
					event := r.eventOf(e)
					if live == nil || live[event] {
						list = append(list, e&^(1<<placeBits-1)|(event-merged.first))
					}
				}
			}); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return s.besides().write(&merged, entries, runs, func() error { return nil }, func() {})
}

// fewLive is up to how many events a run may have left that is written again without the others.
const fewLive = 10_000

// thin writes the oldest run of which few events are left without the others. Purge has passed all of it: what is left is
// late. A run of which nothing is left goes.
func (s *Store) thin(c *sqlitefile.Conn) error {
	swept, err := c.Stmt("SELECT value FROM meta WHERE key = 'swept_events'").Int64()
	if err != nil {
		return err
	}
	for _, r := range s.runs {
		if r.last > swept {
			return nil
		}
		live := map[int64]bool{}
		st := c.Stmt("SELECT seq FROM event WHERE seq BETWEEN ? AND ? LIMIT ?")
		st.Bind(r.first, r.last, fewLive)
		if err := st.Each(func() { live[st.ColumnInt64(0)] = true }); err != nil {
			return err
		}
		if len(live) < fewLive && int64(len(live)) <= r.events/4 {
			return s.merge(c, []*run{r}, live)
		}
	}
	return nil
}
