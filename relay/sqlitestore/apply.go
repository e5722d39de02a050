package sqlitestore

import (
	"context"
	"errors"
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// transaction holds what a batch changes, until it is durable.
type transaction struct {
	now     int64
	tallies tallies
	packs   packs
	ready   readyRows
	ended   []ending
	begun   []beginning
	added   []*addition
	tasks   []endedTask
}

// addition is a new event among the recent ones, and what its key stood for before.
type addition struct {
	event  *relay.Event
	key    recentKey
	first  first
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
func (s *Store) Apply(ctx context.Context, b *relay.Batch) {
	written := false
	err := s.alone(ctx, func() error {
		now := s.clock.now()
		if err := s.ensureAll(b.Accepts); err != nil {
			return err
		}
		if len(b.Settles)+len(b.Accepts) > 0 {
			s.applyWrites(b, now)
		}
		written = true
		s.applyLeases(b.Leases, now)
		return nil
	})
	if err == nil {
		return
	}
	if !written {
		for _, op := range b.Settles {
			op.Err = err
		}
		for _, op := range b.Accepts {
			op.Leased, op.Err = nil, err
		}
	}
	for _, op := range b.Leases {
		op.Leased, op.Err = nil, err
	}
}

func (s *Store) applyLeases(leases []*relay.Lease, now int64) {
	for _, op := range leases {
		// Only now: a settle that comes late counts, so long as nobody else has the delivery. If it fails, the next lease
		// tries again; it goes on, too, where there are more.
		if d := s.find(op.Source, op.Destination); d != nil {
			_, _ = s.requeue(d, now)
		}
	}
	for _, op := range leases {
		if err := s.lease(op, now); err != nil {
			op.Leased, op.Err = nil, sqlitefile.Explain(err)
		}
	}
}

// applyWrites commits settles and accepts together. If one of them is what fails it commits them one by one, so that an
// operation that cannot be done fails alone. Where nothing can be written, all fail at once: each would wait as long.
func (s *Store) applyWrites(b *relay.Batch, now int64) {
	err := s.commit(b.Settles, b.Accepts, now)
	if err == nil {
		return
	}
	alone := len(b.Settles)+len(b.Accepts) == 1 || errors.Is(err, relay.ErrUnavailable)
	for i, op := range b.Settles {
		if !alone {
			err = s.commit(b.Settles[i:i+1], nil, now)
		}
		if err != nil {
			op.Err = sqlitefile.Explain(err)
		}
	}
	for i, op := range b.Accepts {
		if !alone {
			err = s.commit(nil, b.Accepts[i:i+1], now)
		}
		if err != nil {
			op.Err = sqlitefile.Explain(err)
		}
	}
}

func (s *Store) commit(settles []*relay.Settle, accepts []*relay.Accept, now int64) error {
	tx := &transaction{now: now, tallies: tallies{}, packs: packs{}, ready: readyRows{}}
	err := s.transact(tx.tallies, func() error {
		for _, op := range settles {
			if err := s.settle(tx, op); err != nil {
				return err
			}
		}
		if err := s.savePacks(tx.packs); err != nil {
			return err
		}
		for _, op := range accepts {
			accept := s.accept
			if op.Ends != relay.NotEnding {
				accept = s.acceptEnding
			}
			if err := accept(tx, op); err != nil {
				return err
			}
		}
		return tx.ready.save(s.db.Writer)
	})
	if err != nil {
		for _, e := range tx.ended {
			e.lease.settling = false
		}
		s.dropQueued()
		for _, a := range slices.Backward(tx.added) {
			if a.before != nil {
				s.recent.keys[a.key] = *a.before
			} else {
				delete(s.recent.keys, a.key)
			}
			s.mem.Lock()
			delete(s.recent.ids, a.first.id)
			s.mem.Unlock()
		}
		for _, op := range accepts {
			op.Result, op.FirstID, op.ConflictWith = 0, "", ""
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
	s.endTasks(tx)
	for _, a := range tx.added {
		s.newest = a.event.Seq
		s.recent.add(newRecentEvent(&a.first, a.key, a.event.TaskID, millis(a.event.ReceivedAt)))
		s.cache.add(a.event, tx.now)
	}
	return nil
}

// transact runs change in a transaction, with the tallies that it makes, and applies those to memory once it is durable.
// The caller holds write.
func (s *Store) transact(t tallies, change func() error) error {
	err := s.db.Write(func() error {
		if err := change(); err != nil {
			return err
		}
		return t.save(s.db.Writer)
	})
	if err != nil {
		return err
	}
	s.askForCheckpoint()
	s.mem.Lock()
	defer s.mem.Unlock()
	t.apply()
	return nil
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
