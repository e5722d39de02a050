package sqlitestore

import (
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
)

// find gives a destination, or nil. The caller holds write or mem.
func (s *Store) find(source, name string) *destination {
	return s.destinations[relay.DestinationName{Source: source, Destination: name}]
}

// ensure gives a destination, which it makes if there is none, in a transaction of its own: that is done once in the
// life of a name. The caller holds write, outside of a transaction.
func (s *Store) ensure(source, name string) (*destination, error) {
	if d := s.find(source, name); d != nil {
		return d, nil
	}
	sourceID, err := s.ensureSource(source)
	if err != nil {
		return nil, err
	}
	err = sqlitex.Execute(s.conn, "INSERT INTO destination (source, name) VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{sourceID, name}})
	if err != nil {
		return nil, err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	return s.newDestination(s.conn.LastInsertRowID(), sourceID, name), nil
}

func (s *Store) ensureSource(name string) (int64, error) {
	if id, ok := s.sources[name]; ok {
		return id, nil
	}
	err := sqlitex.Execute(s.conn, "INSERT INTO source (name) VALUES (?)", &sqlitex.ExecOptions{Args: []any{name}})
	if err != nil {
		return 0, err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	id := s.conn.LastInsertRowID()
	s.sources[name], s.sourceNames[id] = id, name
	return id, nil
}

// tallies collects what a transaction changes in the counts.
type tallies map[*destination]*tally

func (t tallies) of(d *destination) *tally {
	c := t[d]
	if c == nil {
		c = &tally{}
		t[d] = c
	}
	return c
}

// save writes the changes, within the transaction that they belong to.
func (t tallies) save(c *sqlite.Conn) error {
	for d, n := range t {
		if *n == (tally{}) {
			continue
		}
		n.low = d.lowest()
		st := c.Prep("UPDATE destination SET pending = pending + ?, delivered = delivered + ?, dead = dead + ?, low = ? WHERE id = ?")
		st.BindInt64(1, n.pending)
		st.BindInt64(2, n.delivered)
		st.BindInt64(3, n.dead)
		st.BindInt64(4, n.low)
		st.BindInt64(5, d.id)
		if err := exec(st); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the changes in memory, once they are durable. The caller holds mem.
func (t tallies) apply() {
	for d, n := range t {
		d.pending += n.pending
		d.delivered += n.delivered
		d.dead += n.dead
		d.low = max(d.low, n.low)
		if d.pending == 0 {
			d.oldestKnown = false
		}
	}
}

// Statements that are run all the time compare with +? and not with ?. SQLite would look at the value of a bare parameter
// to plan by it, and so prepare the statement anew whenever it is bound (https://www.sqlite.org/queryplanner-ng.html, "the
// query planner stability guarantee", whose switch cannot be reached from here).

// exec runs a statement that gives no rows.
func exec(st *sqlite.Stmt) error {
	_, err := st.Step()
	if reset := st.Reset(); err == nil {
		err = reset
	}
	return err
}
