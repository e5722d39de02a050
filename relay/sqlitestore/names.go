package sqlitestore

import (
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// destination holds what memory knows of a destination. It is changed under Store.mem by who also holds Store.write,
// once the change is durable, so that either lock suffices for reading.
type destination struct {
	id           int64
	source, name string
	sourceID     int64

	paused                   bool
	pending, delivered, dead int64 // pending includes what is leased

	// cursor is the highest event whose ready delivery was leased: ready ones behind it are in flight. What becomes
	// due again goes to waiting, so that a lease never passes over what is in flight.
	cursor int64
	low    int64 // as stored: no delivery of an event before this one is ready
	// readyMaybe and nextDue bound from below what a lease would find: nothing, if not readyMaybe and nextDue is ahead.
	readyMaybe bool
	nextDue    int64 // never if nothing waits

	queue queue // ready deliveries that are in packs, older than those that have rows

	awaited bool // deliveries of others may wait for some of its

	leases  map[int64]*lease // by event
	expired int64

	oldest      int64 // the acceptance of the oldest pending delivery, when last looked at; 0 if unknown
	oldestKnown bool
}

func (k *known) newDestination(id, source int64, name string) *destination {
	d := &destination{
		id: id, sourceID: source, source: k.sourceNames[source], name: name,
		nextDue: never, leases: map[int64]*lease{},
	}
	k.destinations[relay.DestinationName{Source: d.source, Destination: name}] = d
	k.byID[id] = d
	return d
}

// lowest is the first event that may have a ready delivery, in flight or not.
func (d *destination) lowest() int64 {
	low := d.cursor + 1
	for event := range d.leases {
		low = min(low, event)
	}
	return max(min(low, d.queue.first()), d.low)
}

func (d *destination) noteDue(at int64) { d.nextDue = min(d.nextDue, at) }

// find returns a destination, or nil. The caller holds write or mem.
func (s *Store) find(source, name string) *destination {
	return s.destinations[relay.DestinationName{Source: source, Destination: name}]
}

// ensure returns a destination, which it creates if there is none, in a transaction of its own: that is done once in the
// life of a name. The caller holds write, outside of a transaction.
func (s *Store) ensure(source, name string) (*destination, error) {
	if d := s.find(source, name); d != nil {
		return d, nil
	}
	sourceID, err := s.ensureSource(source)
	if err != nil {
		return nil, err
	}
	var id int64
	err = s.transact(nil, func() error {
		st := s.db.Writer.Stmt("INSERT INTO destination (source, name) VALUES (?, ?)")
		st.BindInt64(1, sourceID)
		st.BindText(2, name)
		err := st.Exec()
		id = s.db.Writer.LastInsertRowID()
		return err
	})
	if err != nil {
		return nil, err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	return s.newDestination(id, sourceID, name), nil
}

func (s *Store) ensureSource(name string) (int64, error) {
	if id, ok := s.sources[name]; ok {
		return id, nil
	}
	var id int64
	err := s.transact(nil, func() error {
		st := s.db.Writer.Stmt("INSERT INTO source (name) VALUES (?)")
		st.BindText(1, name)
		err := st.Exec()
		id = s.db.Writer.LastInsertRowID()
		return err
	})
	if err != nil {
		return 0, err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	s.sources[name], s.sourceNames[id] = id, name
	return id, nil
}

// tally is a change of a destination's counts by a transaction.
type tally struct{ pending, delivered, dead, low int64 }

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
func (t tallies) save(c *sqlitefile.Conn) error {
	for d, n := range t {
		if *n == (tally{}) {
			continue
		}
		n.low = d.lowest()
		st := c.Stmt("UPDATE destination SET pending = pending + ?, delivered = delivered + ?, dead = dead + ?, low = ? WHERE id = ?")
		st.BindInt64(1, n.pending)
		st.BindInt64(2, n.delivered)
		st.BindInt64(3, n.dead)
		st.BindInt64(4, n.low)
		st.BindInt64(5, d.id)
		if err := st.Exec(); err != nil {
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
