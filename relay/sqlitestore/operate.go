package sqlitestore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// letter is a dead delivery that a selection found.
type letter struct {
	destination *destination
	event       int64
	variant     int64
}

// Redrive implements relay.Store.
func (s *Store) Redrive(ctx context.Context, sel relay.Selection, p relay.Pace, cursor string) (n int, next string, err error) {
	from := letterPlace{}
	if cursor != "" {
		if from, err = parsePlace(cursor); err != nil {
			return 0, "", err
		}
	}
	begun := s.clock.Elapsed()
	err = s.alone(ctx, func() (err error) {
		p.Asked += s.clock.Elapsed() - begun
		n, next, err = s.redrive(sel, p, from)
		return err
	})
	return n, next, err
}

func (s *Store) redrive(sel relay.Selection, p relay.Pace, from letterPlace) (n int, next string, err error) {
	letters, on, err := s.selectDead(sel, from, relay.MaxTouched)
	if err != nil {
		return 0, "", err
	}
	a, t := s.anew(p.Asked), tallies{}
	err = s.transact(t, func() error {
		for _, l := range letters {
			a.due, a.variant = a.now+ceil(p.Due(n)), l.variant
			done, err := s.replay(l.destination, l.event, a, t)
			if err != nil {
				return err
			}
			if done {
				n++
			}
		}
		return nil
	})
	if err != nil {
		return 0, "", err
	}
	if on != nil {
		next = on.String()
	}
	return n, next, nil
}

const (
	// deadOfSelection finds dead letters of a destination, oldest event first.
	deadOfSelection = `SELECT event, variant FROM delivery INDEXED BY delivery_dead
	WHERE destination = ? AND state = ` + sqlDead + ` AND event >= ? AND event < ? AND dead_at >= ? AND dead_at < ? ORDER BY event LIMIT ?`
	// deadAfter finds the event of a dead letter with so many before it.
	deadAfter = "SELECT event FROM delivery INDEXED BY delivery_dead WHERE destination = ? AND state = " + sqlDead + " AND event >= ? ORDER BY event LIMIT 1 OFFSET ?"
)

// selectDead returns the first dead letters of a selection that come after a place, oldest event first, and the place after
// which to go on; nil if there are no more. It looks at no more than callbacks can wait for. The caller holds write.
func (s *Store) selectDead(sel relay.Selection, from letterPlace, most int) (letters []letter, on *letterPlace, err error) {
	since, until := span(sel.Since, sel.Until)
	end := never // what comes from this event on is not looked at
	first := map[*destination]int64{}
	for _, d := range s.byID {
		if !matches(sel, d) || d.dead == 0 {
			continue
		}
		first[d] = from.event
		if d.id <= from.destination {
			first[d]++ // of that very event this destination's letter is past
		}
	}
	if since > 0 || until < never { // else there are no rows that the list passes over
		for d, event := range first {
			st := s.db.Writer.Stmt(deadAfter)
			st.Bind(d.id, event, max(int64(scannedLetters/len(first)), relay.MaxTouched))
			if err := st.Each(func() { end = min(end, st.ColumnInt64(0)) }); err != nil {
				return nil, nil, err
			}
		}
	}
	for d, event := range first {
		st := s.db.Writer.Stmt(deadOfSelection)
		st.Bind(d.id, event, end, since, until, int64(most))
		if err := st.Each(func() {
			letters = append(letters, letter{destination: d, event: st.ColumnInt64(0), variant: st.ColumnInt64(1)})
		}); err != nil {
			return nil, nil, err
		}
	}
	slices.SortFunc(letters, func(a, b letter) int {
		return cmp.Or(cmp.Compare(a.event, b.event), cmp.Compare(a.destination.id, b.destination.id))
	})
	switch {
	case len(letters) >= most:
		letters = letters[:most]
		last := letters[most-1]
		on = &letterPlace{last.event, last.destination.id}
	case end < never:
		on = &letterPlace{event: end}
	}
	return letters, on, nil
}

func matches(sel relay.Selection, d *destination) bool {
	return (sel.Source == "" || sel.Source == d.source) && (sel.Destination == "" || sel.Destination == d.name)
}

// span returns times as wall clock milliseconds; a zero time does not bound.
func span(since, until time.Time) (from, to int64) {
	to = never
	if !since.IsZero() {
		from = millis(since)
	}
	if !until.IsZero() {
		to = millis(until)
	}
	return from, to
}

// Discard implements relay.Store.
func (s *Store) Discard(ctx context.Context, sel relay.Selection, cursor string) (n int, next string, err error) {
	from := letterPlace{}
	if cursor != "" {
		if from, err = parsePlace(cursor); err != nil {
			return 0, "", err
		}
	}
	err = s.alone(ctx, func() (err error) { n, next, err = s.discard(sel, from); return err })
	return n, next, err
}

// behindLetters is a place behind all dead letters, where a step begins that has only orphans to discard.
var behindLetters = letterPlace{event: never - 1}

func (s *Store) discard(sel relay.Selection, from letterPlace) (n int, next string, err error) {
	letters, on, err := s.selectDead(sel, from, relay.MaxTouched)
	if err != nil {
		return 0, "", err
	}
	var orphans []int64
	d := s.find(sel.Source, sel.Destination)
	if sel.Orphaned && d != nil && on == nil {
		if err := errors.Join(s.requeueAll(d, s.clock.now()), s.flush(d)); err != nil {
			return 0, "", err
		}
		if orphans, err = s.selectPending(d, relay.MaxTouched-len(letters)); err != nil {
			return 0, "", err
		}
	}
	t := tallies{}
	err = s.transact(t, func() error {
		for _, l := range letters {
			t.of(l.destination).dead--
			if err := s.deleteDelivery(l.destination, l.event); err != nil {
				return err
			}
		}
		for _, event := range orphans {
			t.of(d).pending--
			if err := s.deleteDelivery(d, event); err != nil {
				return err
			}
			if _, err := s.unhold(d, event, s.clock.now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, "", err
	}
	n = len(letters) + len(orphans)
	if on == nil && n == relay.MaxTouched {
		on = &behindLetters
	}
	if on != nil {
		next = on.String()
	}
	return n, next, nil
}

// Where a destination's pending deliveries are, with the index that finds no others: it says what delivery_old says, word
// for word, since SQLite uses it for no other.
const (
	fromBlocked = "FROM delivery d INDEXED BY delivery_old WHERE destination = ?1 AND state = " + sqlBlocked + " AND state IN (" + sqlWaiting + ", " + sqlBlocked + ")"
	fromReady   = "FROM delivery d WHERE destination = ?1 AND " + isReady
	fromWaiting = "FROM delivery d INDEXED BY delivery_old WHERE destination = ?1 AND state = " + sqlWaiting + " AND state IN (" + sqlWaiting + ", " + sqlBlocked + ")"
)

// isReady finds the ready deliveries of the destination ?1 without looking at those that were settled long ago.
const isReady = "state = " + sqlReady + " AND d.event >= (SELECT low FROM destination WHERE id = ?1)"

// selectPending returns deliveries of a destination that are neither settled nor leased. Blocked ones come first, so
// that none is left without the one that it waits for.
func (s *Store) selectPending(d *destination, most int) ([]int64, error) {
	var events []int64
	for _, from := range []string{fromBlocked, fromReady, fromWaiting} {
		st := s.db.Writer.Stmt("SELECT event " + from + " LIMIT ?2")
		st.Bind(d.id, int64(most-len(events)+len(d.leases)))
		if err := st.Each(func() {
			if event := st.ColumnInt64(0); d.leases[event] == nil && len(events) < most {
				events = append(events, event)
			}
		}); err != nil {
			return nil, err
		}
	}
	return events, nil
}

func (s *Store) deleteDelivery(d *destination, event int64) error {
	for _, query := range []string{
		"DELETE FROM attempt WHERE event = ? AND destination = ?",
		"DELETE FROM delivery WHERE event = ? AND destination = ?",
	} {
		st := s.db.Writer.Stmt(query)
		st.Bind(event, d.id)
		if err := st.Exec(); err != nil {
			return err
		}
	}
	return nil
}

// Pause implements relay.Store.
func (s *Store) Pause(ctx context.Context, source, name string, paused bool) error {
	return s.alone(ctx, func() error { return s.pause(source, name, paused) })
}

func (s *Store) pause(source, name string, paused bool) error {
	d, err := s.ensure(source, name)
	if err != nil {
		return err
	}
	if err := s.transact(nil, func() error {
		st := s.db.Writer.Stmt("UPDATE destination SET paused = ? WHERE id = ?")
		st.Bind(0, d.id)
		if paused {
			st.BindInt64(1, 1)
		}
		return st.Exec()
	}); err != nil {
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	d.paused = paused
	return nil
}
