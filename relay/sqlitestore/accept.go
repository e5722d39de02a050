package sqlitestore

import (
	"bytes"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// accept stores an event and its deliveries, unless its key is remembered.
func (s *Store) accept(tx *transaction, op *relay.Accept) error {
	op.Err, op.Leased, op.ConflictWith = nil, nil, ""
	ev := op.Event
	id, err := ulid.ParseStrict(ev.ID)
	if err != nil {
		op.Err = fmt.Errorf("event id %q: %w", ev.ID, err)
		return nil
	}
	known, err := s.knownAs(tx, op, id)
	if err != nil {
		return err
	}
	beside := known != nil && op.Separate && known.id != id && known.fingerprint != ev.Fingerprint
	if known != nil && !beside {
		return s.repeat(op, known, id)
	}
	if s.short() {
		op.Err = s.errShort()
		return nil
	}
	if beside {
		op.FirstID = known.id.String()
		if used, err := s.proofUsed(tx, op); used || err != nil {
			op.Result = relay.Replayed
			return err
		}
		if err := s.countConflict(known.event); err != nil {
			return err
		}
		op.ConflictWith = op.FirstID
		ev = ev.Separated(op.FirstID)
	}
	op.Result, op.FirstID = relay.Accepted, ev.ID
	ev.Seq = s.nextSeq
	added, err := s.insertEvent(tx, ev, recentKey{s.sources[ev.Source], ev.Key}, id)
	op.Event.Seq = ev.Seq
	if !added || err != nil {
		return err
	}
	if err := s.noteProof(tx, op, id); err != nil {
		return err
	}
	s.nextSeq++
	packed := make(pack, 0, len(op.Deliveries)*entrySize)
	for i := range op.Deliveries {
		n := &op.Deliveries[i]
		d := s.find(ev.Source, n.Destination)
		switch {
		case n.Ordered || waits(op, n):
			if err := s.insertDelivery(tx, op, ev, d, n); err != nil {
				return err
			}
		case s.leasable(tx, d, n):
			s.leaseAccepted(tx, op, ev, d, n, &lease{packed: true})
			packed = packed.append(packEntry{destination: d.id})
		case s.enqueue(d, ev.Seq):
			tx.tallies.of(d).pending++
			packed = packed.append(packEntry{destination: d.id})
		default:
			tx.tallies.of(d).pending++
			d.readyMaybe = true
			tx.ready.add(d.id, ev.Seq)
		}
	}
	return s.insertPack(ev.Seq, packed)
}

// waits reports whether a delivery waits for another one of the accept, or another one for it.
func waits(op *relay.Accept, n *relay.NewDelivery) bool {
	if op.Awaited(n) != "" {
		return true
	}
	for i := range op.Deliveries {
		if op.Deliveries[i].Behind != "" && op.Awaited(&op.Deliveries[i]) == n.Destination {
			return true
		}
	}
	return false
}

// leasable reports whether a delivery that is due can be leased as it is accepted.
func (s *Store) leasable(tx *transaction, d *destination, n *relay.NewDelivery) bool {
	return n.LeaseFor > 0 && !d.paused && !d.readyMaybe && len(d.queue) == 0 && d.nextDue > tx.now
}

func (s *Store) leaseAccepted(tx *transaction, op *relay.Accept, ev *relay.Event, d *destination, n *relay.NewDelivery, l *lease) {
	s.token++
	l.token, l.expires = s.token, tx.now+ceil(n.LeaseFor)
	tx.begun = append(tx.begun, beginning{ending{d, ev.Seq, l}, op, &relay.Leased{Event: ev, Destination: d.name, Token: s.token}})
	tx.tallies.of(d).pending++
}

// knownAs returns what an accept repeats, nil if it is new: its own event, which may come again when its key stands for a
// later one, or the record of its key.
func (s *Store) knownAs(tx *transaction, op *relay.Accept, id ulid.ULID) (*first, error) {
	f, err := s.recordOf(tx, op)
	if f == nil || f.id == id || err != nil {
		return f, err
	}
	if seq, err := seqOf(s.db.Writer, id, s.recent.ids[id], s.runs); seq != 0 || err != nil {
		return &first{event: seq, id: id}, err
	}
	return f, nil
}

// recordOf returns the record of an accept's key, nil if there is none: of the event's own one if it is not the first.
func (s *Store) recordOf(tx *transaction, op *relay.Accept) (f *first, err error) {
	source, after := s.sources[op.Event.Source], tx.now-ceil(op.Window)
	if op.Separate {
		if f, err = s.remembered(recentKey{source, op.Event.SeparateKey()}, after); f != nil || err != nil {
			return f, err
		}
	}
	return s.remembered(recentKey{source, op.Event.Key}, after)
}

// proofUsed reports whether the signature of a callback that is no first of its key was used for another body.
func (s *Store) proofUsed(tx *transaction, op *relay.Accept) (bool, error) {
	key, ok := op.Event.ProofKey()
	if !ok {
		return false, nil
	}
	f, err := s.remembered(recentKey{s.sources[op.Event.Source], key}, tx.now-ceil(op.Window))
	return f != nil && f.fingerprint != op.Event.Fingerprint, err
}

// noteProof notes what a callback's signature was used for, in a record like one of a key whose event is gone.
func (s *Store) noteProof(tx *transaction, op *relay.Accept, id ulid.ULID) error {
	key, ok := op.Event.ProofKey()
	if !ok || !op.Separate {
		return nil
	}
	return s.outlive(recentKey{s.sources[op.Event.Source], key}, &first{id: id, fingerprint: op.Event.Fingerprint, at: tx.now})
}

// repeat handles a callback whose key is remembered.
func (s *Store) repeat(op *relay.Accept, f *first, id ulid.ULID) error {
	op.FirstID = f.id.String()
	if f.id == id {
		op.Result, op.Event.Seq = relay.Accepted, f.event // an earlier try, whose outcome its caller did not learn
		return nil
	}
	if f.fingerprint == op.Event.Fingerprint {
		op.Result = relay.Duplicate
		st := s.db.Writer.Stmt("INSERT INTO repeat (event, duplicates) VALUES (?, 1) ON CONFLICT (event) DO UPDATE SET duplicates = duplicates + 1")
		st.BindInt64(1, f.event)
		return st.Exec()
	}
	if s.short() { // a variant may be as large as an event
		op.Err = s.errShort()
		return nil
	}
	var err error
	if op.Result, err = s.keepVariant(f.event, op.Event); err != nil || op.Result != relay.Conflict {
		return err
	}
	return s.countConflict(f.event)
}

func (s *Store) countConflict(event int64) error {
	st := s.db.Writer.Stmt("INSERT INTO repeat (event, conflicts) VALUES (?, 1) ON CONFLICT (event) DO UPDATE SET conflicts = conflicts + 1")
	st.BindInt64(1, event)
	return st.Exec()
}

// keepVariant keeps the body of a conflict, unless it is there already. The result is relay.Conflict where it is kept then.
func (s *Store) keepVariant(event int64, ev *relay.Event) (relay.Result, error) {
	st := s.db.Writer.Stmt("SELECT 1 FROM event WHERE seq = ?")
	st.BindInt64(1, event)
	if there, err := st.Exists(); err != nil || !there {
		return relay.Unkept, err
	}
	st = s.db.Writer.Stmt("SELECT fingerprint, headers FROM variant WHERE event = +? ORDER BY n")
	st.BindInt64(1, event)
	result, n := relay.Accepted, int64(0)
	err := st.Each(func() {
		n++
		headers, _ := relay.DecodeHeaders(st.ColumnBlob(1)) // those that cannot be read have no proof
		switch proof := ev.Headers[relay.ProofHeader]; {
		case bytes.Equal(st.ColumnBlob(0), ev.Fingerprint[:]):
			result = relay.Conflict
		case result == relay.Accepted && proof != "" && headers[relay.ProofHeader] == proof:
			result = relay.Replayed
		}
	})
	switch {
	case err != nil || result != relay.Accepted:
		return result, err
	case n >= relay.MaxVariants:
		return relay.Unkept, nil
	}
	st = s.db.Writer.Stmt("INSERT INTO variant (event, n, fingerprint, received, headers, body, packing) VALUES (?, ?, ?, ?, ?, ?, ?)")
	st.BindInt64(1, event)
	st.BindInt64(2, n+1)
	st.BindBytes(3, ev.Fingerprint[:])
	st.BindInt64(4, millis(ev.ReceivedAt))
	st.BindBlob(5, ev.EncodedHeaders())
	body, packing := s.bodies.pack(ev.Body)
	st.BindBytes(6, body)
	st.BindInt64(7, packing)
	return relay.Conflict, st.Exec()
}

// insertEvent adds an event and the record of its key, unless the event is there: one that was in doubt may come again
// when its key's window has ended.
func (s *Store) insertEvent(tx *transaction, ev *relay.Event, key recentKey, id ulid.ULID) (added bool, err error) {
	if seq, err := seqOf(s.db.Writer, id, s.recent.ids[id], s.runs); seq != 0 || err != nil {
		ev.Seq = seq
		return false, err
	}
	st := s.db.Writer.Stmt(`INSERT INTO event (seq, id, source, task, stage, code, key, fingerprint, origin, accepted, received, headers, body, packing)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	st.BindInt64(1, ev.Seq)
	st.BindBytes(2, id[:])
	st.BindInt64(3, key.source)
	st.BindText(4, ev.TaskID)
	st.BindText(5, ev.Stage)
	st.BindText(6, ev.Code)
	st.BindBytes(7, ev.Key[:])
	st.BindBytes(8, ev.Fingerprint[:])
	st.BindText(9, string(ev.Origin))
	st.BindInt64(10, tx.now)
	st.BindInt64(11, millis(ev.ReceivedAt))
	st.BindBlob(12, ev.EncodedHeaders())
	body, packing := s.bodies.pack(ev.Body)
	st.BindBytes(13, body)
	st.BindInt64(14, packing)
	if err := st.Exec(); err != nil {
		return false, err
	}
	a := &addition{event: ev, key: key, first: first{event: ev.Seq, id: id, fingerprint: ev.Fingerprint, at: tx.now}}
	if before, ok := s.recent.keys[key]; ok {
		a.before = &before
	}
	tx.added = append(tx.added, a)
	// The next accept of the same batch must find them already.
	s.recent.keys[key] = a.first
	s.mem.Lock()
	s.recent.ids[id] = ev.Seq
	s.mem.Unlock()
	return true, nil
}

func (s *Store) insertDelivery(tx *transaction, op *relay.Accept, ev *relay.Event, d *destination, n *relay.NewDelivery) error {
	state, chain := int64(ready), ""
	if n.Ordered {
		chain = ev.TaskID
		first, err := s.firstOf(d, chain, ready, waiting, blocked)
		if err != nil {
			return err
		}
		if first != 0 {
			state = blocked
		}
	}
	due, awaited := int64(0), (*destination)(nil)
	if behind := op.Awaited(n); behind != "" {
		awaited = s.find(ev.Source, behind)
		due, awaited.awaited = never, true
		if state == ready {
			state = waiting
		}
	}
	switch leasable := s.leasable(tx, d, n); {
	case state == ready && leasable:
		s.leaseAccepted(tx, op, ev, d, n, &lease{chain: chain})
	case state == ready:
		d.readyMaybe = true
		fallthrough
	default:
		tx.tallies.of(d).pending++
	}
	st := s.db.Writer.Stmt("INSERT INTO delivery (event, destination, state, due, chain, behind) VALUES (?, ?, ?, ?, ?, ?)")
	st.Bind(ev.Seq, d.id, state, due)
	if chain == "" {
		st.BindNull(5)
	} else {
		st.BindText(5, chain)
	}
	if awaited == nil {
		st.BindNull(6)
	} else {
		st.BindInt64(6, awaited.id)
	}
	return st.Exec()
}
