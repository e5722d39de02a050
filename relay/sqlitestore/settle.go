package sqlitestore

import (
	"fmt"

	"github.com/callbackrelay/caddy-relay/relay"
)

// settle ends a lease, unless its token is no longer the current one.
func (s *Store) settle(tx *transaction, op *relay.Settle) error {
	op.Err, op.Unblocked, op.Freed = nil, false, nil
	ev := op.Leased.Event
	d := s.find(ev.Source, op.Leased.Destination)
	if d == nil {
		op.Err = relay.ErrLeaseLost
		return nil
	}
	l := d.leases[ev.Seq]
	if l == nil || l.settling || l.token != op.Leased.Token {
		op.Err = relay.ErrLeaseLost
		return nil
	}
	l.settling = true
	tx.ended = append(tx.ended, ending{d, ev.Seq, l})

	if err := s.keepFiles(ev.Seq, op.Files); err != nil {
		return err
	}
	if l.packed && op.Outcome == relay.OutcomeDelivered {
		tx.tallies.of(d).pending--
		tx.tallies.of(d).delivered++
		return s.settlePacked(tx, d, op) // which nothing waits for
	}
	if l.packed {
		if _, err := s.unpack(tx.packs, d, ev.Seq); err != nil {
			return err
		}
	}
	if op.Attempt != nil {
		if err := s.recordAttempt(d, op); err != nil {
			return err
		}
	}
	if err := s.writeOutcome(tx, d, op); err != nil {
		return err
	}
	if op.Outcome == relay.OutcomeDelivered || op.Outcome == relay.OutcomeDead {
		freed, err := s.unhold(d, ev.Seq, tx.now)
		if err != nil {
			return err
		}
		op.Freed = freed
	}
	unblocked, err := s.pass(d, l.chain, tx.now)
	op.Unblocked = unblocked
	return err
}

// writeOutcome writes an outcome to the row of a delivery.
func (s *Store) writeOutcome(tx *transaction, d *destination, op *relay.Settle) error {
	event, tries, used := op.Leased.Event.Seq, int64(0), int64(0)
	if op.Attempt != nil {
		tries = 1
	}
	if op.Used {
		used = 1
	}
	count := tx.tallies.of(d)
	switch op.Outcome {
	case relay.OutcomeDelivered:
		count.pending--
		count.delivered++
		st := s.db.Writer.Stmt("UPDATE delivery SET state = " + sqlDelivered + ", tries = tries + ?, used = used + ?, settled = ? WHERE event = ? AND destination = ?")
		st.Bind(tries, used, tx.now, event, d.id)
		return st.Exec()
	case relay.OutcomeDead:
		count.pending--
		count.dead++
		st := s.db.Writer.Stmt("UPDATE delivery SET state = " + sqlDead + ", tries = tries + ?, used = used + ?, settled = ?, dead_at = ?, reason = ? WHERE event = ? AND destination = ?")
		st.Bind(tries, used, tx.now, millis(s.clock.Wall()))
		st.BindText(5, op.Reason)
		st.BindInt64(6, event)
		st.BindInt64(7, d.id)
		return st.Exec()
	case relay.OutcomeRetry, relay.OutcomeRelease:
		due := tx.now
		if op.Outcome == relay.OutcomeRetry {
			due += ceil(op.Delay)
		}
		d.noteDue(due)
		st := s.db.Writer.Stmt("UPDATE delivery SET state = " + sqlWaiting + ", due = ?, tries = tries + ?, used = used + ? WHERE event = ? AND destination = ?")
		st.Bind(due, tries, used, event, d.id)
		return st.Exec()
	}
	return fmt.Errorf("settle with the unknown outcome %d", op.Outcome)
}

func (s *Store) recordAttempt(d *destination, op *relay.Settle) error {
	return s.insertAttempt(op.Leased.Event.Seq, d.id, int64(op.Leased.Tries+1), op.Attempt)
}

func (s *Store) insertAttempt(event, destination, n int64, a *relay.Attempt) error {
	st := s.db.Writer.Stmt("INSERT INTO attempt (event, destination, n, at, duration, status, error, response) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
	st.Bind(event, destination, n, millis(a.At), a.Duration.Microseconds(), int64(a.Status))
	st.BindText(7, a.Error)
	st.BindBlob(8, a.Response)
	return st.Exec()
}
