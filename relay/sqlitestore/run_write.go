package sqlitestore

import (
	"cmp"
	"slices"
)

const (
	// writtenPages is how many pages one transaction writes or deletes, so that callbacks wait for no more than that.
	writtenPages = 32
	// mergedRuns is how many runs of about one length become one. A key is looked for in each run, and each merge writes
	// all entries again.
	mergedRuns = 8
)

// runWriter writes runs. Only one goroutine does.
type runWriter struct {
	*Store
	exclusively func(f func() error) error // runs f while nobody else writes
}

// besides returns the writer of runs beside those who accept, for keep.
func (s *Store) besides() runWriter {
	return runWriter{s, func(f func() error) error {
		if err := s.closing(); err != nil {
			return err
		}
		if err := s.checkpoint(); err != nil {
			return err
		}
		s.write.Lock()
		defer s.write.Unlock()
		return f()
	}}
}

// alreadyAlone returns the writer of runs for who holds write.
func (s *Store) alreadyAlone() runWriter {
	return runWriter{s, func(f func() error) error { return f() }}
}

func (w runWriter) transact(change func() error) error {
	return w.exclusively(func() error { return w.Store.transact(nil, change) })
}

// write writes a run, if it has any entries, with the entries of each kind, which need not be sorted, in place of others. It ends with a transaction
// that makes also's changes, and calls then while nobody else writes. A crash leaves pages of no run, which the next start
// deletes.
func (w runWriter) write(r *run, entries func(kind int) ([]int64, error), replaced []*run, also func() error, then func()) error {
	r.id = w.nextRun()
	if err := w.deletePages(r.id); err != nil { // of one that could not be finished
		return err
	}
	for kind := range kinds {
		list, err := entries(kind)
		if err != nil {
			return err
		}
		slices.Sort(list)
		if kind == byKey {
			r.filter, r.used = newFilter(len(list)), true
			for _, e := range list {
				r.filter.add(uint64(e) >> placeBits)
			}
		}
		for pages := range slices.Chunk(list, writtenPages*pageEntries) {
			if err := w.transact(func() error { return w.writePages(r, kind, pages) }); err != nil {
				return err
			}
		}
	}
	if err := w.exclusively(func() error {
		err := w.Store.transact(nil, func() error {
			if r.events > 0 {
				if err := w.insertRun(r); err != nil {
					return err
				}
			}
			for _, old := range replaced {
				if err := w.deleteRun(old); err != nil {
					return err
				}
			}
			return also()
		})
		if err == nil {
			w.replaceRuns(replaced, r)
			then()
		}
		return err
	}); err != nil {
		return err
	}
	return w.deletePagesOf(replaced)
}

// replaceRuns notes in memory what has been written. The caller holds write.
func (s *Store) replaceRuns(replaced []*run, r *run) {
	s.runs = slices.DeleteFunc(s.runs, func(r *run) bool { return slices.Contains(replaced, r) })
	if r.events > 0 {
		s.runs = append(s.runs, r)
	}
	slices.SortFunc(s.runs, func(a, b *run) int { return cmp.Compare(a.first, b.first) })
}

func (s *Store) nextRun() (id int64) {
	for _, r := range s.runs {
		id = max(id, r.id)
	}
	return id + 1
}

func (s *Store) writePages(r *run, kind int, entries []int64) error {
	for page := range slices.Chunk(entries, pageEntries) {
		st := s.db.Writer.Stmt("INSERT INTO run_page (run, kind, low, entries) VALUES (?, ?, ?, ?)")
		st.Bind(r.id, int64(kind), page[0])
		st.BindBytes(4, encodeEntries(page))
		if err := st.Exec(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) insertRun(r *run) error {
	st := s.db.Writer.Stmt("INSERT INTO run (id, first, last, events, newest, earliest, latest, filter) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
	st.Bind(r.id, r.first, r.last, r.events, r.newest, r.earliest, r.latest)
	st.BindBytes(8, r.filter)
	return st.Exec()
}

func (s *Store) deleteRun(r *run) error {
	st := s.db.Writer.Stmt("DELETE FROM run WHERE id = ?")
	st.BindInt64(1, r.id)
	return st.Exec()
}

func (w runWriter) deletePagesOf(runs []*run) error {
	for _, r := range runs {
		if err := w.deletePages(r.id); err != nil {
			return err
		}
	}
	return nil
}

// deletePages deletes the pages of a run that is there no more.
func (w runWriter) deletePages(run int64) error {
	for kind := range int64(kinds) {
		for more := true; more; {
			if err := w.transact(func() error {
				st := w.db.Writer.Stmt(`DELETE FROM run_page WHERE run = ?1 AND kind = ?2
					AND low <= (SELECT max(low) FROM (SELECT low FROM run_page WHERE run = ?1 AND kind = ?2 ORDER BY low LIMIT ?3))`)
				st.Bind(run, kind, writtenPages)
				err := st.Exec()
				more = w.db.Writer.Changes() == writtenPages
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadRuns reads which runs there are, and deletes what a crash has left of others.
func (s *Store) loadRuns(k *known) (err error) {
	if k.runs, err = runsOf(s.db.Writer.Stmt(runColumns + "ORDER BY first")); err != nil {
		return err
	}
	for id := int64(0); ; {
		st := s.db.Writer.Stmt("SELECT run FROM run_page WHERE run > ? ORDER BY run LIMIT 1")
		st.BindInt64(1, id)
		if id, err = st.Int64(); id == 0 || err != nil {
			return err
		}
		if !slices.ContainsFunc(k.runs, func(r *run) bool { return r.id == id }) {
			if err := s.alreadyAlone().deletePages(id); err != nil {
				return err
			}
		}
	}
}
