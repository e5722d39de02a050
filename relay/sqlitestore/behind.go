package sqlitestore

// A delivery behind another one of its event is waiting, or blocked behind earlier ones of its task, and never due until
// the other one is settled or gone. In its chain it keeps its place meanwhile.

// fromBehind finds deliveries that may wait for another one. It repeats the condition of the index, because SQLite uses it
// for no other.
const fromBehind = "delivery INDEXED BY delivery_behind WHERE behind IS NOT NULL AND state IN (" + sqlWaiting + ", " + sqlBlocked + ")"

// freeBehind makes the deliveries due that wait for one of a destination.
const freeBehind = "UPDATE delivery INDEXED BY delivery_behind SET due = ?1 WHERE behind = ?2 AND event = ?3 AND due = ?4 AND behind IS NOT NULL AND state IN (" +
	sqlWaiting + ", " + sqlBlocked + ") RETURNING destination"

// unhold makes the deliveries due that wait for one of a destination, and returns the names of theirs.
func (s *Store) unhold(d *destination, event, now int64) (freed []string, err error) {
	if !d.awaited {
		return nil, nil
	}
	st := s.db.Writer.Stmt(freeBehind)
	st.Bind(now, d.id, event, never)
	err = st.Each(func() {
		waiter := s.byID[st.ColumnInt64(0)]
		waiter.noteDue(now)
		freed = append(freed, waiter.name)
	})
	return freed, err
}

// loadAwaited notes which destinations have deliveries that others wait for.
func (s *Store) loadAwaited(k *known) error {
	st := s.db.Writer.Stmt("SELECT DISTINCT behind FROM " + fromBehind)
	return st.Each(func() {
		if d := k.byID[st.ColumnInt64(0)]; d != nil {
			d.awaited = true
		}
	})
}
