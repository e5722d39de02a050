package sqlitestore

import (
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// leaseColumns lists the columns that readLease reads.
const leaseColumns = "event, tries, used, replay, variant, chain, since, behind FROM delivery "

// lease is one delivery in somebody's hands.
type lease struct {
	token   uint64
	expires int64
	chain   string
	packed  bool // the delivery has no row of its own
	// settling is set while a transaction is about to end the lease.
	settling bool
}

// lease leases what is due, up to op.Max: what waited for its due time first, then in the order of acceptance. It reads
// what has been committed and writes nothing. The caller holds write.
func (s *Store) lease(op *relay.Lease, now int64) error {
	op.Leased, op.Err, op.Next, op.Paused = nil, nil, -1, false
	d := s.find(op.Source, op.Destination)
	if d == nil {
		return nil
	}
	if d.paused {
		op.Paused = true
		return nil
	}
	var err error
	if op.Probe {
		err = s.takeReady(d, op, now)
		if err == nil && len(op.Leased) < op.Max {
			err = s.takeUntried(d, op, now)
		}
		if err == nil && len(op.Leased) < op.Max {
			err = s.takeWaiting(d, op, now, never-1)
		}
	} else {
		if d.nextDue <= now {
			err = s.takeWaiting(d, op, now, now)
		}
		if err == nil && len(op.Leased) < op.Max {
			err = s.takeReady(d, op, now)
		}
	}
	if err == nil {
		err = s.lookAhead(d, len(op.Leased) < op.Max)
	}
	if err != nil {
		s.forget(d, op)
		return err
	}
	op.Next = s.next(d, now)
	return nil
}

// takeReady leases deliveries that never were, in the order of acceptance.
func (s *Store) takeReady(d *destination, op *relay.Lease, now int64) error {
	if err := s.takeQueued(d, op, now); err != nil || len(op.Leased) == op.Max || !d.readyMaybe {
		return err
	}
	st := s.db.Writer.Stmt("SELECT " + leaseColumns + "WHERE destination = +? AND state = " + sqlReady + " AND event > ? ORDER BY event")
	st.Bind(d.id, d.cursor)
	return s.take(st, d, op, now, func(event int64) { d.cursor = max(d.cursor, event) })
}

// takeQueued leases what is in the destination's queue.
func (s *Store) takeQueued(d *destination, op *relay.Lease, now int64) error {
	for len(d.queue) > 0 && len(op.Leased) < op.Max {
		event := d.queue[0]
		ev, err := s.readPayload(d, event)
		if err != nil {
			return err
		}
		s.token++
		op.Leased = append(op.Leased, &relay.Leased{Event: ev.Event, Destination: d.name, Token: s.token, Age: duration(max(0, now-ev.accepted))})
		s.mem.Lock()
		d.leases[event] = &lease{token: s.token, expires: now + ceil(op.For), packed: true}
		d.queue = d.queue[1:]
		s.mem.Unlock()
	}
	return nil
}

// takeWaiting leases deliveries due by a time, the one that has been due for longest first.
func (s *Store) takeWaiting(d *destination, op *relay.Lease, now, by int64) error {
	st := s.db.Writer.Stmt("SELECT " + leaseColumns + "WHERE destination = +? AND state = " + sqlWaiting + " AND due <= ? ORDER BY due, event")
	st.Bind(d.id, by)
	return s.take(st, d, op, now, func(int64) {})
}

// takeUntried leases deliveries that wait for other reasons than an attempt that failed.
func (s *Store) takeUntried(d *destination, op *relay.Lease, now int64) error {
	st := s.db.Writer.Stmt("SELECT " + leaseColumns + "WHERE destination = +? AND state = " + sqlWaiting + " AND tries = 0 AND due < ? ORDER BY due, event")
	st.Bind(d.id, never)
	return s.take(st, d, op, now, func(int64) {})
}

func (s *Store) take(st *sqlitefile.Stmt, d *destination, op *relay.Lease, now int64, taken func(event int64)) error {
	defer func() { _ = st.Reset() }()
	for len(op.Leased) < op.Max {
		found, err := st.Step()
		if !found || err != nil {
			return err
		}
		event := st.ColumnInt64(0)
		if d.leases[event] != nil {
			continue // those in flight stand there too
		}
		l, leased, err := s.readLease(st, d, op, now)
		if err != nil {
			return err
		}
		op.Leased = append(op.Leased, leased)
		s.mem.Lock()
		d.leases[event] = l
		taken(event)
		s.mem.Unlock()
	}
	return nil
}

func (s *Store) readLease(st *sqlitefile.Stmt, d *destination, op *relay.Lease, now int64) (*lease, *relay.Leased, error) {
	ev, err := s.readPayload(d, st.ColumnInt64(0))
	if err != nil {
		return nil, nil, err
	}
	payload := ev.Event
	if n := st.ColumnInt64(4); n > 0 {
		variant := *payload
		if err := s.readVariant(&variant, n); err != nil {
			return nil, nil, err
		}
		payload = &variant
	}
	s.token++
	l := &lease{token: s.token, expires: now + ceil(op.For), chain: st.ColumnText(5)}
	var files []relay.File
	if d.name == relay.ArchiveName || st.ColumnInt64(7) != 0 {
		if files, err = filesOf(s.db.Writer, payload.Seq); err != nil {
			return nil, nil, err
		}
	}
	return l, &relay.Leased{
		Event: payload, Files: files, Destination: d.name, Token: s.token,
		Tries: st.ColumnInt(1), Used: st.ColumnInt(2), Replay: st.ColumnInt(3),
		Age: duration(max(0, now-max(ev.accepted, st.ColumnInt64(6)))),
	}, nil
}

// readPayload returns an event with its first body.
func (s *Store) readPayload(d *destination, seq int64) (cachedEvent, error) {
	if ev, ok := s.cache.find(seq); ok {
		return ev, nil
	}
	st := s.db.Writer.Stmt("SELECT id, task, stage, code, origin, accepted, received, headers, body, packing FROM event WHERE seq = ?")
	st.BindInt64(1, seq)
	defer func() { _ = st.Reset() }()
	if found, err := st.Step(); !found || err != nil {
		return cachedEvent{}, orNotFound(err, "event %d", seq)
	}
	headers, err := relay.DecodeHeaders(st.ColumnBlob(7))
	if err != nil {
		return cachedEvent{}, err
	}
	body, err := unpackBody(st.ColumnBlob(8), st.ColumnInt64(9))
	if err != nil {
		return cachedEvent{}, err
	}
	var id ulid.ULID
	st.ColumnBytes(0, id[:])
	ev := cachedEvent{accepted: st.ColumnInt64(5), Event: &relay.Event{
		ID: id.String(), Seq: seq, Source: d.source,
		TaskID: st.ColumnText(1), Stage: st.ColumnText(2), Code: st.ColumnText(3), Origin: relay.Origin(st.ColumnText(4)),
		ReceivedAt: fromMillis(st.ColumnInt64(6)), Headers: headers, Body: body,
	}}
	s.cache.keep(ev)
	return ev, nil
}

// readVariant sets the headers and the body of an event to those of one of its variants.
func (s *Store) readVariant(ev *relay.Event, n int64) (err error) {
	st := s.db.Writer.Stmt("SELECT headers, body, packing FROM variant WHERE event = ? AND n = ?")
	st.Bind(ev.Seq, n)
	defer func() { _ = st.Reset() }()
	found, err := st.Step()
	if !found || err != nil {
		return err
	}
	if ev.Body, err = unpackBody(st.ColumnBlob(1), st.ColumnInt64(2)); err != nil {
		return err
	}
	ev.Headers, err = relay.DecodeHeaders(st.ColumnBlob(0))
	return err
}

// forget reverts a lease that failed half way.
func (s *Store) forget(d *destination, op *relay.Lease) {
	s.mem.Lock()
	defer s.mem.Unlock()
	for _, l := range op.Leased {
		if d.leases[l.Event.Seq].packed {
			d.queue = append(d.queue, l.Event.Seq)
		}
		delete(d.leases, l.Event.Seq)
		d.cursor = min(d.cursor, l.Event.Seq-1)
	}
	slices.Sort(d.queue)
	op.Leased = nil
	d.readyMaybe, d.nextDue = true, 0
}

// lookAhead finds out what is left to lease.
func (s *Store) lookAhead(d *destination, readyDone bool) error {
	if readyDone {
		d.readyMaybe = false
	} else if d.readyMaybe {
		st := s.db.Writer.Stmt("SELECT 1 FROM delivery WHERE destination = +? AND state = " + sqlReady + " AND event > ? LIMIT 1")
		st.Bind(d.id, d.cursor)
		more, err := st.Exists()
		if err != nil {
			return err
		}
		d.readyMaybe = more
	}
	if d.nextDue == never {
		return nil
	}
	st := s.db.Writer.Stmt("SELECT event, due FROM delivery WHERE destination = +? AND state = " + sqlWaiting + " ORDER BY due, event")
	st.Bind(d.id)
	defer func() { _ = st.Reset() }()
	for {
		found, err := st.Step()
		if err != nil {
			return err
		}
		if !found {
			d.nextDue = never
			return nil
		}
		if d.leases[st.ColumnInt64(0)] == nil {
			d.nextDue = st.ColumnInt64(1)
			return nil
		}
	}
}

// requeueAll is requeue until there are no more.
func (s *Store) requeueAll(d *destination, now int64) error {
	for {
		if more, err := s.requeue(d, now); !more || err != nil {
			return err
		}
	}
}

// requeue sets the deliveries of a destination to due again whose lease has expired, since their holder may have died: the oldest
// ones, up to what a transaction may touch (11). It reports whether there are more. The caller holds write.
func (s *Store) requeue(d *destination, now int64) (more bool, err error) {
	var expired []int64
	for event, l := range d.leases {
		if l.expires <= now {
			expired = append(expired, event)
		}
	}
	if len(expired) == 0 {
		return false, nil
	}
	if more = len(expired) > relay.MaxTouched; more {
		slices.Sort(expired)
		expired = expired[:relay.MaxTouched]
	}
	for _, event := range expired {
		d.leases[event].settling = true
	}
	err = s.transact(nil, func() error {
		for _, event := range expired {
			l := d.leases[event]
			if l.packed {
				if _, err := s.unpackNow(d, event); err != nil {
					return err
				}
			}
			st := s.db.Writer.Stmt("UPDATE delivery SET state = " + sqlWaiting + ", due = ? WHERE event = ? AND destination = ? AND state = " + sqlReady)
			st.Bind(now, event, d.id)
			if err := st.Exec(); err != nil {
				return err
			}
			if _, err := s.pass(d, l.chain, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, event := range expired {
			d.leases[event].settling = false
		}
		return false, err
	}
	d.noteDue(now)
	s.mem.Lock()
	defer s.mem.Unlock()
	for _, event := range expired {
		delete(d.leases, event)
		d.expired++
	}
	return more, nil
}

// next is how long until something can be leased, or a lease expires.
func (s *Store) next(d *destination, now int64) time.Duration {
	at := d.nextDue
	if d.readyMaybe || len(d.queue) > 0 {
		at = now
	}
	for _, l := range d.leases {
		at = min(at, l.expires)
	}
	if at == never {
		return -1
	}
	return duration(max(at-now, 0))
}
