package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Replay implements relay.Store.
func (s *Store) Replay(ctx context.Context, id string, destinations []string, variant int) (replayed, skipped int, err error) {
	err = s.alone(ctx, func() (err error) {
		replayed, skipped, err = s.replayEvent(id, destinations, variant)
		return err
	})
	return replayed, skipped, err
}

func (s *Store) replayEvent(id string, destinations []string, variant int) (replayed, skipped int, err error) {
	seq, source, err := s.eventOf(id)
	if err != nil {
		return 0, 0, err
	}
	if variant != 0 {
		st := s.db.Writer.Stmt("SELECT 1 FROM variant WHERE event = ? AND n = ?")
		st.Bind(seq, int64(variant))
		if found, err := st.Exists(); !found || err != nil {
			return 0, 0, orNotFound(err, "variant %d of event %q", variant, id)
		}
	}
	targets := make([]*destination, 0, len(destinations))
	for _, name := range destinations {
		d, err := s.ensure(source, name)
		if err != nil {
			return 0, 0, err
		}
		targets = append(targets, d)
	}
	t := tallies{}
	a := s.anew(0)
	a.due, a.variant = a.now, int64(variant)
	err = s.transact(t, func() error {
		for _, d := range targets {
			done, err := s.replay(d, seq, a, t)
			if err != nil {
				return err
			}
			if done {
				replayed++
			} else {
				skipped++
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return replayed, skipped, nil
}

// anew sets how a delivery is replayed. Times are the store's.
type anew struct{ variant, due, now, asked int64 }

// anew begins a replay that was asked for some time ago.
func (s *Store) anew(ago time.Duration) anew {
	now := s.clock.now()
	a := anew{now: now, asked: now}
	if ago > 0 {
		a.asked -= ceil(ago) + 1 // what was replayed within this very millisecond counts
	}
	return a
}

// replay sets a delivery to pending anew, or adds it where there was none. It reports false for one that is not settled, or that
// was replayed since it was asked for.
func (s *Store) replay(d *destination, seq int64, a anew, t tallies) (bool, error) {
	st := s.db.Writer.Stmt("SELECT state, chain, since FROM delivery WHERE event = ? AND destination = ?")
	st.Bind(seq, d.id)
	found, err := st.Step()
	state, chain, since := st.ColumnInt64(0), st.ColumnText(1), st.ColumnInt64(2)
	if reset := st.Reset(); err == nil {
		err = reset
	}
	if err != nil {
		return false, err
	}
	if found && since > a.asked && since <= a.now {
		return false, nil
	}
	if !found {
		if d.leases[seq] != nil || slices.Contains(d.queue, seq) {
			return false, nil
		}
		if found, err = s.unpackNow(d, seq); err != nil {
			return false, err
		}
		state = delivered
	}
	if !found {
		st = s.db.Writer.Stmt("INSERT INTO delivery (event, destination, state, due, since, replay, variant) VALUES (?, ?, " + sqlWaiting + ", ?, ?, 1, ?)")
		st.Bind(seq, d.id, a.due, a.due, a.variant)
		t.of(d).pending++
		d.noteDue(a.due)
		return true, st.Exec()
	}
	switch state {
	case delivered:
		t.of(d).delivered--
	case dead:
		t.of(d).dead--
	default:
		return false, nil
	}
	next := int64(waiting)
	if chain != "" {
		next = blocked // until it has the turn
	}
	t.of(d).pending++
	d.noteDue(a.due)
	st = s.db.Writer.Stmt(`UPDATE delivery SET state = ?, due = ?, since = ?, used = 0, replay = replay + 1, variant = ?, settled = 0, dead_at = 0, reason = ''
		WHERE event = ? AND destination = ?`)
	st.Bind(next, a.due, a.due, a.variant, seq, d.id)
	if err := st.Exec(); err != nil {
		return false, err
	}
	_, err = s.pass(d, chain, a.now)
	return true, err
}

// ReplayAll implements relay.Store.
func (s *Store) ReplayAll(ctx context.Context, source string, deliveries []relay.DeliveryName, p relay.Pace) (replayed, skipped int, err error) {
	begun := s.clock.Elapsed()
	err = s.alone(ctx, func() (err error) {
		p.Asked += s.clock.Elapsed() - begun
		replayed, err = s.replayAll(source, deliveries, p)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	return replayed, len(deliveries) - replayed, nil
}

func (s *Store) replayAll(source string, deliveries []relay.DeliveryName, p relay.Pace) (replayed int, err error) {
	type target struct {
		destination *destination
		event       int64
		place       int
	}
	var targets []target
	for i, name := range deliveries {
		event, of, err := s.eventOf(name.EventID)
		if errors.Is(err, relay.ErrNotFound) || err == nil && of != source {
			continue
		}
		if err != nil {
			return 0, err
		}
		d, err := s.ensure(source, name.Destination)
		if err != nil {
			return 0, err
		}
		targets = append(targets, target{d, event, i})
	}
	a, t := s.anew(p.Asked), tallies{}
	err = s.transact(t, func() error {
		for _, target := range targets {
			a.due = a.now + ceil(p.Due(target.place))
			done, err := s.replay(target.destination, target.event, a, t)
			if err != nil {
				return err
			}
			if done {
				replayed++
			}
		}
		return nil
	})
	return replayed, err
}

// eventOf finds an event by its id. The caller holds write.
func (s *Store) eventOf(id string) (seq int64, source string, err error) {
	key, err := ulid.ParseStrict(id)
	if err != nil {
		return 0, "", orNotFound(nil, "event %q", id)
	}
	if seq, err = seqOf(s.db.Writer, key, s.recent.ids[key], s.runs); seq == 0 || err != nil {
		return 0, "", orNotFound(err, "event %q", id)
	}
	st := s.db.Writer.Stmt("SELECT source FROM event WHERE seq = ?")
	st.BindInt64(1, seq)
	of, err := st.Int64()
	return seq, s.sourceNames[of], err
}

func orNotFound(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(format+": %w", append(args, relay.ErrNotFound)...)
}
