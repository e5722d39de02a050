package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
)

// transaction is what a batch changes, until it is durable.
type transaction struct {
	now     int64
	tallies tallies
	ended   []*ending
	begun   []*beginning
	added   []*addition
}

// addition is a new event among the recent ones, and what its key stood for before.
type addition struct {
	event  *relay.Event
	key    recentKey
	before *first
}

// ending is a lease that a settle ends, beginning one that an accept begins.
type ending struct {
	destination *destination
	event       int64
	lease       *lease
}

type beginning struct {
	ending
	accept *relay.Accept
	leased *relay.Leased
}

// Apply implements relay.Store. Leases come after the commit, and write nothing.
func (s *Store) Apply(_ context.Context, b *relay.Batch) {
	s.write.Lock()
	defer s.write.Unlock()
	if s.closed {
		fail(b, relay.ErrClosed)
		return
	}
	now := s.clock.now()
	if err := s.ensureAll(b.Accepts); err != nil {
		fail(b, explain(err))
		return
	}
	if len(b.Settles)+len(b.Accepts) > 0 {
		s.applyWrites(b, now)
	}
	for _, op := range b.Leases {
		// Only now: a settle that comes late counts, so long as nobody else has the delivery. If it fails, the next lease
		// tries again.
		if d := s.find(op.Source, op.Destination); d != nil {
			_ = s.requeue(d, now)
		}
	}
	for _, l := range b.Leases {
		if err := s.lease(l, now); err != nil {
			l.Leased, l.Err = nil, explain(err)
		}
	}
}

// applyWrites commits settles and accepts together. If that fails it commits them one by one, so that an operation that
// cannot be done fails alone.
func (s *Store) applyWrites(b *relay.Batch, now int64) {
	err := s.commit(b.Settles, b.Accepts, now)
	if err == nil {
		return
	}
	alone := len(b.Settles)+len(b.Accepts) == 1
	for i, op := range b.Settles {
		if !alone {
			err = s.commit(b.Settles[i:i+1], nil, now)
		}
		if err != nil {
			op.Err = explain(err)
		}
	}
	for i, op := range b.Accepts {
		if !alone {
			err = s.commit(nil, b.Accepts[i:i+1], now)
		}
		if err != nil {
			op.Err = explain(err)
		}
	}
}

func (s *Store) commit(settles []*relay.Settle, accepts []*relay.Accept, now int64) error {
	tx := &transaction{now: now, tallies: tallies{}}
	err := s.transact(tx.tallies, func() error {
		for _, op := range settles {
			if err := s.settle(tx, op); err != nil {
				return err
			}
		}
		for _, op := range accepts {
			if err := s.accept(tx, op); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, e := range tx.ended {
			e.lease.settling = false
		}
		for _, a := range slices.Backward(tx.added) {
			if a.before != nil {
				s.recent.keys[a.key] = *a.before
			} else {
				delete(s.recent.keys, a.key)
			}
		}
		for _, op := range accepts {
			op.Result, op.FirstID = 0, ""
		}
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	for _, e := range tx.ended {
		delete(e.destination.leases, e.event)
	}
	for _, e := range tx.begun {
		e.destination.leases[e.event] = e.lease
		e.destination.cursor = max(e.destination.cursor, e.event)
		e.accept.Leased = append(e.accept.Leased, e.leased)
	}
	for _, a := range tx.added {
		s.recent.add(taskHash(a.event.TaskID), a.event.Seq)
		s.cache.add(a.event, tx.now)
	}
	return nil
}

// transact runs change in a transaction, with the tallies that it makes, and applies those to memory once it is durable.
// The caller holds write.
func (s *Store) transact(t tallies, change func() error) (err error) {
	if err := exec(s.conn.Prep("BEGIN IMMEDIATE")); err != nil {
		return err
	}
	if err = change(); err == nil {
		err = t.save(s.conn)
	}
	if err == nil {
		err = exec(s.conn.Prep("COMMIT"))
	}
	if err != nil {
		if !s.conn.AutocommitEnabled() { // some errors have rolled back already
			err = errors.Join(err, exec(s.conn.Prep("ROLLBACK")))
		}
		return err
	}
	s.askForCheckpoint()
	s.mem.Lock()
	defer s.mem.Unlock()
	t.apply()
	return nil
}

// settle ends a lease, unless its token is no longer the current one.
func (s *Store) settle(tx *transaction, op *relay.Settle) error {
	op.Err, op.Unblocked = nil, false
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
	tx.ended = append(tx.ended, &ending{d, ev.Seq, l})

	if op.Attempt != nil {
		if err := s.recordAttempt(d, op); err != nil {
			return err
		}
	}
	tries, used := 0, 0
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
		st := s.conn.Prep("UPDATE delivery SET state = 2, tries = tries + ?, used = used + ?, settled = ? WHERE event = ? AND destination = ?")
		bind(st, int64(tries), int64(used), tx.now, ev.Seq, d.id)
		if err := exec(st); err != nil {
			return err
		}
	case relay.OutcomeDead:
		count.pending--
		count.dead++
		st := s.conn.Prep("UPDATE delivery SET state = 3, tries = tries + ?, used = used + ?, settled = ?, dead_at = ?, reason = ? WHERE event = ? AND destination = ?")
		bind(st, int64(tries), int64(used), tx.now, millis(s.clock.Wall()))
		st.BindText(5, op.Reason)
		st.BindInt64(6, ev.Seq)
		st.BindInt64(7, d.id)
		if err := exec(st); err != nil {
			return err
		}
	case relay.OutcomeRetry, relay.OutcomeRelease:
		due := tx.now
		if op.Outcome == relay.OutcomeRetry {
			due += ceil(op.Delay)
		}
		d.noteDue(due)
		st := s.conn.Prep("UPDATE delivery SET state = 1, due = ?, tries = tries + ?, used = used + ? WHERE event = ? AND destination = ?")
		bind(st, due, int64(tries), int64(used), ev.Seq, d.id)
		if err := exec(st); err != nil {
			return err
		}
	default:
		return fmt.Errorf("settle with the unknown outcome %d", op.Outcome)
	}
	unblocked, err := s.pass(d, l.chain, tx.now)
	op.Unblocked = unblocked
	return err
}

func (s *Store) recordAttempt(d *destination, op *relay.Settle) error {
	st := s.conn.Prep("INSERT INTO attempt (event, destination, n, at, duration, status, error, response) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
	bind(st, op.Leased.Event.Seq, d.id, int64(op.Leased.Tries+1), millis(op.Attempt.At), op.Attempt.Duration.Microseconds(), int64(op.Attempt.Status))
	st.BindText(7, op.Attempt.Error)
	bindBlob(st, 8, op.Attempt.Response)
	return exec(st)
}

// accept stores an event and its deliveries, unless its key is remembered.
func (s *Store) accept(tx *transaction, op *relay.Accept) error {
	op.Err, op.Leased = nil, nil
	ev := op.Event
	id, err := ulid.ParseStrict(ev.ID)
	if err != nil {
		op.Err = fmt.Errorf("event id %q: %w", ev.ID, err)
		return nil
	}
	key := recentKey{s.sources[ev.Source], ev.Key}
	known, err := s.remembered(key, tx.now-ceil(op.Window))
	if err != nil {
		return err
	}
	if known != nil {
		return s.repeat(op, known, id)
	}
	if s.short() {
		op.Err = s.errShort()
		return nil
	}
	op.Result, op.FirstID = relay.Accepted, ev.ID
	ev.Seq = s.nextSeq
	if added, err := s.insertEvent(tx, ev, key, id); !added || err != nil {
		return err
	}
	s.nextSeq++
	for i := range op.Deliveries {
		if err := s.insertDelivery(tx, op, &op.Deliveries[i]); err != nil {
			return err
		}
	}
	return nil
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
		st := s.conn.Prep("INSERT INTO repeat (event, duplicates) VALUES (?, 1) ON CONFLICT (event) DO UPDATE SET duplicates = duplicates + 1")
		st.BindInt64(1, f.event)
		return exec(st)
	}
	if s.short() { // a variant may be as large as an event
		op.Err = s.errShort()
		return nil
	}
	op.Result = relay.Conflict
	st := s.conn.Prep("INSERT INTO repeat (event, conflicts) VALUES (?, 1) ON CONFLICT (event) DO UPDATE SET conflicts = conflicts + 1")
	st.BindInt64(1, f.event)
	if err := exec(st); err != nil {
		return err
	}
	return s.keepVariant(f.event, op.Event)
}

// keepVariant keeps the body of a conflict, unless it is there already or there are enough of them.
func (s *Store) keepVariant(event int64, ev *relay.Event) error {
	st := s.conn.Prep(`INSERT INTO variant (event, n, fingerprint, received, headers, body)
		SELECT ?1, count(*) + 1, ?2, ?3, ?4, ?5 FROM variant WHERE event = ?1
		HAVING count(*) < ?6 AND NOT EXISTS (SELECT 1 FROM variant WHERE event = ?1 AND fingerprint = ?2)`)
	st.BindInt64(1, event)
	st.BindBytes(2, ev.Fingerprint[:])
	st.BindInt64(3, millis(ev.ReceivedAt))
	bindBlob(st, 4, ev.Headers.Encode())
	st.BindBytes(5, ev.Body)
	st.BindInt64(6, relay.MaxVariants)
	return exec(st)
}

// insertEvent adds an event and the record of its key, unless the event is there: one that was in doubt may come again
// when its key's window has ended.
func (s *Store) insertEvent(tx *transaction, ev *relay.Event, key recentKey, id ulid.ULID) (added bool, err error) {
	st := s.conn.Prep(`INSERT INTO event (seq, id, source, task, stage, code, key, fingerprint, origin, accepted, received, headers, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`)
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
	bindBlob(st, 12, ev.Headers.Encode())
	st.BindBytes(13, ev.Body)
	if err := exec(st); err != nil {
		return false, err
	}
	if s.conn.Changes() == 0 {
		st = s.conn.Prep("SELECT seq FROM event WHERE id = ?")
		st.BindBytes(1, id[:])
		ev.Seq, err = sqlitex.ResultInt64(st)
		return false, err
	}
	a := &addition{event: ev, key: key}
	if before, ok := s.recent.keys[key]; ok {
		a.before = &before
	}
	tx.added = append(tx.added, a)
	// The next accept of the same batch must find the key already.
	s.recent.keys[key] = first{event: ev.Seq, id: id, fingerprint: ev.Fingerprint, at: tx.now}
	return true, nil
}

func (s *Store) insertDelivery(tx *transaction, op *relay.Accept, n *relay.NewDelivery) error {
	d := s.find(op.Event.Source, n.Destination)
	state, chain := int64(ready), ""
	if n.Ordered {
		chain = op.Event.TaskID
		first, err := s.firstOf(d, chain, ready, waiting, blocked)
		if err != nil {
			return err
		}
		if first != 0 {
			state = blocked
		}
	}
	tx.tallies.of(d).pending++
	switch {
	case state != ready:
	case n.LeaseFor > 0 && !d.paused && !d.readyMaybe && d.nextDue > tx.now:
		s.token++
		tx.begun = append(tx.begun, &beginning{
			ending{d, op.Event.Seq, &lease{token: s.token, expires: tx.now + ceil(n.LeaseFor), chain: chain}},
			op, &relay.Leased{Event: op.Event, Destination: d.name, Token: s.token},
		})
	default:
		d.readyMaybe = true
	}
	st := s.conn.Prep("INSERT INTO delivery (event, destination, state, chain) VALUES (?, ?, ?, ?)")
	bind(st, op.Event.Seq, d.id, state)
	if chain == "" {
		st.BindNull(4)
	} else {
		st.BindText(4, chain)
	}
	return exec(st)
}

// ensureAll makes the sources and destinations that a batch names.
func (s *Store) ensureAll(accepts []*relay.Accept) error {
	for _, op := range accepts {
		if _, err := s.ensureSource(op.Event.Source); err != nil {
			return err
		}
		for _, n := range op.Deliveries {
			if _, err := s.ensure(op.Event.Source, n.Destination); err != nil {
				return err
			}
		}
	}
	return nil
}

func fail(b *relay.Batch, err error) {
	for _, op := range b.Settles {
		op.Err = err
	}
	for _, op := range b.Accepts {
		op.Err = err
	}
	for _, op := range b.Leases {
		op.Err = err
	}
}

func bind(st *sqlite.Stmt, values ...int64) {
	for i, v := range values {
		st.BindInt64(i+1, v)
	}
}

func bindBlob(st *sqlite.Stmt, param int, b []byte) {
	if len(b) == 0 {
		st.BindNull(param)
		return
	}
	st.BindBytes(param, b)
}

// exists says whether a statement gives a row.
func exists(st *sqlite.Stmt) (bool, error) {
	found, err := st.Step()
	if reset := st.Reset(); err == nil {
		err = reset
	}
	return found, err
}

func blob(st *sqlite.Stmt, column int) []byte {
	n := st.ColumnLen(column)
	if n == 0 {
		return nil
	}
	b := make([]byte, n)
	st.ColumnBytes(column, b)
	return b
}
