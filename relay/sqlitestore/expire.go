package sqlitestore

import (
	"context"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Which pending deliveries are old: those of events up to ?2 that were never replayed, or those that were replayed by ?2.
const (
	oldEvent  = " AND since = 0 AND event <= ?2"
	oldReplay = " AND since > 0 AND since <= ?2"
)

// Expire implements relay.Store.
func (s *Store) Expire(ctx context.Context, source, name string, age time.Duration) (dead []relay.DeadLetter, err error) {
	err = s.alone(ctx, func() (err error) {
		dead, err = s.expire(source, name, age)
		return err
	})
	return dead, err
}

func (s *Store) expire(source, name string, age time.Duration) ([]relay.DeadLetter, error) {
	d := s.find(source, name)
	if d == nil || d.pending == 0 {
		return nil, nil
	}
	now := s.clock.now()
	by := now - age.Milliseconds()
	if d.oldestKnown && d.oldest > by {
		return nil, nil
	}
	if err := s.requeueAll(d, now); err != nil {
		return nil, err
	}
	last, err := s.lastAccepted(by)
	if last == 0 || err != nil {
		return nil, err
	}
	if d.queue.first() <= last {
		if err := s.flush(d); err != nil {
			return nil, err
		}
	}
	letters, lastReady, err := s.selectOld(d, last, by)
	if len(letters) == 0 || err != nil {
		return nil, err
	}
	deadAt := s.clock.Wall()
	t := tallies{}
	chains := map[string]bool{}
	err = s.transact(t, func() error {
		for _, l := range letters {
			chains[l.chain] = true
			if _, err := s.unhold(d, l.seq, now); err != nil {
				return err
			}
			t.of(d).pending--
			t.of(d).dead++
			st := s.db.Writer.Stmt("UPDATE delivery SET state = " + sqlDead + ", settled = ?, dead_at = ?, reason = ? WHERE event = ? AND destination = ?")
			st.Bind(now, millis(deadAt))
			st.BindText(3, relay.ErrExpired.Error())
			st.BindInt64(4, l.seq)
			st.BindInt64(5, d.id)
			if err := st.Exec(); err != nil {
				return err
			}
		}
		for chain := range chains {
			if _, err := s.pass(d, chain, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.mem.Lock()
	d.cursor = max(d.cursor, lastReady) // up to there nothing is ready any more
	s.mem.Unlock()
	dead := make([]relay.DeadLetter, len(letters))
	for i, l := range letters {
		dead[i] = l.DeadLetter
		dead[i].DeadAt = deadAt
	}
	return dead, nil
}

// oldDelivery is a delivery that has expired.
type oldDelivery struct {
	relay.DeadLetter
	seq   int64
	chain string
}

// selectOld returns pending deliveries of events up to a sequence, neither leased nor replayed after a time, the ready
// ones first and in their order: lastReady is the last of those.
func (s *Store) selectOld(d *destination, last, by int64) (letters []oldDelivery, lastReady int64, err error) {
	for _, old := range []struct {
		from  string
		bound int64
	}{
		{fromReady + oldEvent, last},
		{fromWaiting + oldEvent, last},
		{fromWaiting + oldReplay, by},
		{fromBlocked + oldEvent, last},
		{fromBlocked + oldReplay, by},
	} {
		st := s.db.Writer.Stmt(`SELECT p.event, p.tries, p.chain, e.id, e.task,
			(SELECT status FROM attempt a WHERE a.event = p.event AND a.destination = ?1 ORDER BY n DESC LIMIT 1)
			FROM (SELECT event, tries, chain ` + old.from + ` LIMIT ?3) p CROSS JOIN event e ON e.seq = p.event`)
		st.Bind(d.id, old.bound, int64(relay.MaxTouched-len(letters)+len(d.leases)))
		if err := st.Each(func() {
			seq := st.ColumnInt64(0)
			if d.leases[seq] != nil || len(letters) == relay.MaxTouched {
				return
			}
			var id ulid.ULID
			st.ColumnBytes(3, id[:])
			letters = append(letters, oldDelivery{seq: seq, chain: st.ColumnText(2), DeadLetter: relay.DeadLetter{
				EventID: id.String(), Source: d.source, TaskID: st.ColumnText(4), Destination: d.name,
				Attempts: st.ColumnInt(1), LastStatus: st.ColumnInt(5), LastError: relay.ErrExpired.Error(),
			}})
			if strings.HasPrefix(old.from, fromReady) {
				lastReady = seq
			}
		}); err != nil {
			return nil, 0, err
		}
	}
	return letters, lastReady, nil
}

// lastAccepted is the last event that was accepted by a time, or 0: acceptance ascends with the sequence, so that it is
// found by halving.
func (s *Store) lastAccepted(by int64) (last int64, err error) {
	low, high := int64(0), s.nextSeq-1
	for low < high {
		middle := low + (high-low+1)/2
		st := s.db.Writer.Stmt("SELECT seq, accepted FROM event WHERE seq <= ? ORDER BY seq DESC LIMIT 1")
		st.BindInt64(1, middle)
		found, err := st.Step()
		seq, accepted := st.ColumnInt64(0), st.ColumnInt64(1)
		if reset := st.Reset(); err == nil {
			err = reset
		}
		switch {
		case err != nil:
			return 0, err
		case !found || seq <= low: // nothing between
			low = middle
		case accepted <= by:
			low, last = middle, seq
		default:
			high = seq - 1
		}
	}
	return last, nil
}
