package sqlitestore

import (
	"context"
	"errors"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// Reassign implements relay.Store. The cursor is the last event that was looked at.
func (s *Store) Reassign(ctx context.Context, source, from, to, cursor string) (r relay.Reassigned, next string, err error) {
	after := int64(0)
	if cursor != "" {
		if after, err = parseCursor(cursor); err != nil {
			return r, "", err
		}
	}
	err = s.alone(ctx, func() (err error) {
		r, next, err = s.reassign(source, from, to, after)
		return err
	})
	return r, next, err
}

// movable is a delivery that is about to change its destination.
type movable struct {
	event, state, due int64
	chain             string
}

// ofDestination finds deliveries of a destination, oldest event first.
const ofDestination = "SELECT event, state, due, chain FROM delivery WHERE destination = ? AND event > ? AND event <= ? ORDER BY event LIMIT ?"

func (s *Store) reassign(source, fromName, toName string, after int64) (r relay.Reassigned, next string, err error) {
	from := s.find(source, fromName)
	if from == nil {
		return r, "", nil
	}
	to, err := s.ensure(source, toName)
	if err != nil {
		return r, "", err
	}
	now := s.clock.now()
	if err := errors.Join(s.requeueAll(from, now), s.flush(from)); err != nil {
		return r, "", err
	}
	last, held, err := s.unpackOf(from, after)
	if err != nil {
		return r, "", err
	}
	var rows []movable
	st := s.db.Writer.Stmt(ofDestination)
	st.Bind(from.id, after, last, relay.MaxTouched)
	if err := st.Each(func() {
		rows = append(rows, movable{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnText(3)})
	}); err != nil {
		return r, "", err
	}
	t := tallies{}
	err = s.transact(t, func() error {
		for _, m := range rows {
			moved, err := s.move(from, to, m, now, t)
			if err != nil {
				return err
			}
			if moved {
				r.Moved++
			} else {
				r.Left++
			}
		}
		return nil
	})
	if err != nil {
		return relay.Reassigned{}, "", err
	}
	if len(rows) == relay.MaxTouched {
		last = rows[len(rows)-1].event
	}
	for _, event := range held {
		if event <= last {
			r.Left++
		}
	}
	if last < never {
		next = strconv.FormatInt(last, 10)
	}
	return r, next, nil
}

// packsScanned is how many packs one call looks at: they come in the order of events, those of other destinations too.
const packsScanned = 5000

// unpackOf has rows of their own for deliveries of a destination that were delivered and are in the packs of events after
// one. It returns the last event up to which all have, and which are left since they are leased.
func (s *Store) unpackOf(d *destination, after int64) (last int64, held []int64, err error) {
	last = never
	n, settled := 0, []int64{}
	st := s.db.Writer.Stmt(packsFrom)
	st.Bind(after, packsScanned)
	if err := st.Until(func(st *sqlitefile.Stmt) (bool, error) {
		event, p := st.ColumnInt64(0), pack(st.ColumnBlob(1))
		n++
		switch i := p.find(d.id); {
		case i < 0:
		case p.delivered(i):
			settled = append(settled, event)
		default:
			held = append(held, event)
		}
		if n == packsScanned || len(settled) == relay.MaxTouched {
			last = event
			return true, nil
		}
		return false, nil
	}); err != nil || len(settled) == 0 {
		return last, held, err
	}
	return last, held, s.transact(nil, func() error {
		for _, event := range settled {
			if _, err := s.unpackNow(d, event); err != nil {
				return err
			}
		}
		return nil
	})
}

// move hands a delivery to another destination, and reports whether it could.
func (s *Store) move(from, to *destination, m movable, now int64, t tallies) (bool, error) {
	open := m.state != delivered && m.state != dead
	if from.leases[m.event] != nil || open && m.due == never {
		return false, nil
	}
	st := s.db.Writer.Stmt("SELECT 1 FROM delivery WHERE event = ? AND destination = ?")
	st.Bind(m.event, to.id)
	if there, err := st.Exists(); there || err != nil {
		return false, err
	}
	if p, err := readPack(s.db.Writer, m.event); p.find(to.id) >= 0 || err != nil {
		return false, err
	}
	state := m.state
	if open && m.chain != "" {
		holder, err := s.firstOf(from, m.chain, ready, waiting)
		if err != nil || from.leases[holder] != nil {
			return false, err
		}
		state = blocked // until it has the turn
	} else if open {
		state = waiting // what is ready stands behind a cursor of its destination
	}
	st = s.db.Writer.Stmt("UPDATE delivery SET destination = ?, state = ?, due = CASE WHEN state = " + sqlReady + " THEN ? ELSE due END WHERE event = ? AND destination = ?")
	st.Bind(to.id, state, now, m.event, from.id)
	if err := st.Exec(); err != nil {
		return false, err
	}
	st = s.db.Writer.Stmt("UPDATE attempt SET destination = ? WHERE event = ? AND destination = ?")
	st.Bind(to.id, m.event, from.id)
	if err := st.Exec(); err != nil {
		return false, err
	}
	switch m.state {
	case delivered:
		t.of(from).delivered--
		t.of(to).delivered++
		return true, nil
	case dead:
		t.of(from).dead--
		t.of(to).dead++
		return true, nil
	}
	t.of(from).pending--
	t.of(to).pending++
	to.noteDue(now)
	if _, err := s.unhold(from, m.event, now); err != nil {
		return false, err
	}
	if _, err := s.pass(from, m.chain, now); err != nil {
		return false, err
	}
	_, err := s.pass(to, m.chain, now)
	return true, err
}
