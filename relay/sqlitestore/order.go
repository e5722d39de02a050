package sqlitestore

// The ordered deliveries of one task to one destination are a chain. One of them has the turn: it is ready or waiting,
// and the others are blocked. It is the oldest one, unless an older one is replayed while it is in flight.

// unsettled repeats the condition of the index delivery_chain word for word, because SQLite uses it for no other.
const unsettled = "chain IS NOT NULL AND state IN (" + sqlReady + ", " + sqlWaiting + ", " + sqlBlocked + ")"

// pass passes the turn of a chain to its oldest delivery, unless the one that has it is in flight. It reports whether
// another delivery has it now.
func (s *Store) pass(d *destination, chain string, now int64) (passed bool, err error) {
	if chain == "" {
		return false, nil
	}
	holder, err := s.firstOf(d, chain, ready, waiting)
	if err != nil {
		return false, err
	}
	if l := d.leases[holder]; l != nil && !l.settling {
		return false, nil
	}
	next, err := s.firstOf(d, chain, ready, waiting, blocked)
	if next == holder || err != nil {
		return false, err
	}
	if holder != 0 {
		st := s.db.Writer.Stmt("UPDATE delivery SET state = " + sqlBlocked + " WHERE event = ? AND destination = ?")
		st.Bind(holder, d.id)
		if err := st.Exec(); err != nil {
			return false, err
		}
	}
	// What had the turn before may wait for a retry.
	st := s.db.Writer.Stmt("UPDATE delivery SET state = " + sqlWaiting + ", due = max(due, ?) WHERE event = ? AND destination = ?")
	st.Bind(now, next, d.id)
	d.noteDue(now)
	return true, st.Exec()
}

// oldestOf finds the oldest event of a chain's deliveries in one state.
const oldestOf = "SELECT event FROM delivery INDEXED BY delivery_chain WHERE destination = +? AND chain = +? AND state = +? AND " + unsettled + " ORDER BY event LIMIT 1"

// firstOf returns the oldest event of a chain's deliveries in some states, or 0.
func (s *Store) firstOf(d *destination, chain string, states ...int64) (first int64, err error) {
	for _, state := range states {
		st := s.db.Writer.Stmt(oldestOf)
		st.BindInt64(1, d.id)
		st.BindText(2, chain)
		st.BindInt64(3, state)
		if err := st.Each(func() {
			if event := st.ColumnInt64(0); first == 0 || event < first {
				first = event
			}
		}); err != nil {
			return 0, err
		}
	}
	return first, nil
}
