package sqlitestore

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// sweepStep is how many events one step of the sweep looks at.
const sweepStep = 200

// sweep is one step of a purge. A cursor walks the events by their sequence; what it cannot delete yet is noted for later,
// so that no event needs a mark of its own.
type sweep struct {
	*Store
	policy  relay.PurgePolicy
	now     int64
	tallies tallies
	result  relay.PurgeResult
	deleted []eventRow // which memory forgets once that is durable
	touched int
}

// Purge implements relay.Store.
func (s *Store) Purge(ctx context.Context, p relay.PurgePolicy) (result relay.PurgeResult, err error) {
	err = s.alone(ctx, func() (err error) {
		result, err = s.purge(p)
		return err
	})
	return result, err
}

func (s *Store) purge(p relay.PurgePolicy) (relay.PurgeResult, error) {
	w := &sweep{Store: s, policy: p, now: s.clock.now(), tallies: tallies{}, result: relay.PurgeResult{
		DeadLetters: map[relay.DestinationName]int{}, Deliveries: map[relay.DestinationName]int{},
	}}
	err := s.transact(w.tallies, func() error {
		for _, step := range []func() error{w.again, w.events, w.lateEvents, w.forget, w.tasks} {
			if err := step(); err != nil {
				return err
			}
		}
		// The sequence must not be used again once its last event is gone.
		return s.setMeta("seq", s.nextSeq-1)
	})
	if err != nil {
		return relay.PurgeResult{}, err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	for _, r := range w.deleted {
		if key := (recentKey{r.source, r.key}); s.recent.keys[key].event == r.seq {
			delete(s.recent.keys, key) // the table outlived has it, if it is still remembered
		}
	}
	return w.result, nil
}

// eventRow holds what the sweep needs of an event.
type eventRow struct {
	seq, source, accepted int64
	key                   [32]byte
	id                    ulid.ULID
	fingerprint           [32]byte
}

const eventRowColumns = "seq, source, accepted, key, id, fingerprint FROM event "

func readEventRow(st *sqlitefile.Stmt) eventRow {
	r := eventRow{seq: st.ColumnInt64(0), source: st.ColumnInt64(1), accepted: st.ColumnInt64(2)}
	st.ColumnBytes(3, r.key[:])
	st.ColumnBytes(4, r.id[:])
	st.ColumnBytes(5, r.fingerprint[:])
	return r
}

// again begins with the first event, where the policy keeps less than the one before: what was noted for later may go now.
func (w *sweep) again() error {
	for key, keep := range map[string]time.Duration{"retention": w.policy.Retention, "letters": w.policy.DeadLetterRetention} {
		before, err := w.meta(key)
		if err == nil && keep.Milliseconds() < before {
			err = w.setMeta("swept_events", 0)
		}
		if err == nil {
			err = w.setMeta(key, keep.Milliseconds())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// events deletes what is past its retention, in the order of acceptance.
func (w *sweep) events() error {
	from, err := w.meta("swept_events")
	if err != nil {
		return err
	}
	by := w.now - min(w.policy.Retention, w.policy.DeadLetterRetention).Milliseconds()
	var rows []eventRow
	st := w.db.Writer.Stmt("SELECT " + eventRowColumns + "WHERE seq > ? ORDER BY seq LIMIT ?")
	st.Bind(from, sweepStep)
	if err := st.Until(func(st *sqlitefile.Stmt) (young bool, err error) {
		r := readEventRow(st)
		if young = r.accepted > by; !young {
			rows = append(rows, r)
		}
		return young, nil
	}); err != nil {
		return err
	}
	w.result.More = w.result.More || len(rows) == sweepStep
	var run []eventRow // that go, with none between them that stays
	for _, r := range rows {
		if w.full() {
			break
		}
		goes, err := w.event(r)
		if err != nil {
			return err
		}
		if from = r.seq; goes {
			run = append(run, r)
			continue
		}
		if err := w.deleteRun(run); err != nil {
			return err
		}
		run = nil
	}
	if err := w.deleteRun(run); err != nil {
		return err
	}
	return w.setMeta("swept_events", from)
}

// full reports whether the step may touch no more deliveries.
func (w *sweep) full() bool {
	if w.touched > relay.MaxTouched-sweepStep {
		w.result.More = true
	}
	return w.touched > relay.MaxTouched-sweepStep
}

// lateEvents looks again at what the cursor passed over.
func (w *sweep) lateEvents() error {
	var late []struct{ at, seq int64 }
	st := w.db.Writer.Stmt("SELECT at, event FROM late_event WHERE at <= ? LIMIT ?")
	st.Bind(w.now, sweepStep)
	if err := st.Each(func() {
		late = append(late, struct{ at, seq int64 }{st.ColumnInt64(0), st.ColumnInt64(1)})
	}); err != nil {
		return err
	}
	w.result.More = w.result.More || len(late) == sweepStep
	for _, l := range late {
		if w.full() {
			return nil
		}
		st := w.db.Writer.Stmt("DELETE FROM late_event WHERE at = ? AND event = ?")
		st.Bind(l.at, l.seq)
		if err := st.Exec(); err != nil {
			return err
		}
		st = w.db.Writer.Stmt("SELECT " + eventRowColumns + "WHERE seq = ?")
		st.BindInt64(1, l.seq)
		var rows []eventRow
		if err := st.Each(func() { rows = append(rows, readEventRow(st)) }); err != nil {
			return err
		}
		for _, r := range rows {
			goes, err := w.event(r)
			if goes && err == nil {
				err = w.deleteRun([]eventRow{r})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// event reports whether an event is to be deleted, since its deliveries are all settled for long enough, or notes when to look
// again. The record of its key is kept until its time.
func (w *sweep) event(r eventRow) (goes bool, err error) {
	type row struct {
		destination *destination
		state       int64
	}
	var rows []row
	pending, anyDead, last := false, false, r.accepted
	st := w.db.Writer.Stmt("SELECT d.destination, d.state, d.settled" + ofEvent)
	st.Bind(r.seq, r.source)
	if err := st.Each(func() {
		state := st.ColumnInt64(1)
		rows = append(rows, row{w.byID[st.ColumnInt64(0)], state})
		pending = pending || state != delivered && state != dead
		anyDead = anyDead || state == dead
		last = max(last, st.ColumnInt64(2))
	}); err != nil {
		return false, err
	}
	p, err := readPack(w.db.Writer, r.seq)
	if err != nil {
		return false, err
	}
	for i := range p.len() {
		e := p.entry(i)
		rows = append(rows, row{w.byID[e.destination], e.state()})
		pending = pending || !e.delivered()
		last = max(last, e.settled)
	}
	keep := w.policy.Retention
	if anyDead {
		keep = w.policy.DeadLetterRetention
	}
	again := last + ceil(keep)
	if pending {
		// It can be settled from now on, and is kept that much longer.
		again = w.now + ceil(max(min(w.policy.Retention, w.policy.DeadLetterRetention), time.Second))
	}
	if again > w.now {
		st := w.db.Writer.Stmt("INSERT OR IGNORE INTO late_event (at, event) VALUES (?, ?)")
		st.Bind(again, r.seq)
		w.touched++
		return false, st.Exec()
	}
	for _, d := range rows {
		name := relay.DestinationName{Source: d.destination.source, Destination: d.destination.name}
		w.result.Deliveries[name]++
		if d.state == dead {
			w.result.DeadLetters[name]++
			w.tallies.of(d.destination).dead--
		} else {
			w.tallies.of(d.destination).delivered--
		}
	}
	w.touched += max(1, len(rows))
	w.result.Events++
	if r.accepted+ceil(w.window(r.source)) > w.now {
		err = w.outliveEvent(r, recentKey{r.source, r.key})
	}
	return true, err
}

// deleteRun deletes events that are all there are from the first to the last, with what hangs on them.
func (w *sweep) deleteRun(run []eventRow) error {
	if len(run) == 0 {
		return nil
	}
	first, last := run[0].seq, run[len(run)-1].seq
	for _, query := range []string{
		deleteOf("attempt"), deleteOf("variant"), deleteOf("repeat"), deleteOf("file"), deleteOf("packed"),
		"DELETE FROM event WHERE seq >= +? AND seq <= +?",
	} {
		st := w.db.Writer.Stmt(query)
		st.Bind(first, last)
		if err := st.Exec(); err != nil {
			return err
		}
	}
	sources := map[string]bool{}
	for _, r := range run {
		sources[w.sourceNames[r.source]] = true
	}
	for _, d := range w.byID {
		if !sources[d.source] {
			continue
		}
		st := w.db.Writer.Stmt(deleteDeliveries)
		st.Bind(d.id, first, last)
		if err := st.Exec(); err != nil {
			return err
		}
	}
	w.deleted = append(w.deleted, run...)
	return nil
}

// deleteOf returns the deletion of what a table has of some events.
func deleteOf(table string) string {
	return "DELETE FROM " + table + " WHERE event >= +? AND event <= +?"
}

// deleteDeliveries deletes the deliveries of some events to a destination.
const deleteDeliveries = "DELETE FROM delivery WHERE destination = +? AND event >= +? AND event <= +?"

// outliveEvent keeps what a key stands for, whose event is about to go, unless a later event has it by now.
func (w *sweep) outliveEvent(r eventRow, k recentKey) error {
	f, err := w.remembered(k, -1)
	if f == nil || f.event != r.seq || err != nil {
		return err
	}
	return w.outlive(k, f)
}

// outlive keeps the record of a key that no event in the store has.
func (s *Store) outlive(k recentKey, f *first) error {
	s.outlived = true
	st := s.db.Writer.Stmt("INSERT OR REPLACE INTO outlived (source, key, event, id, fingerprint, at) VALUES (?, ?, ?, ?, ?, ?)")
	st.BindInt64(1, k.source)
	st.BindBytes(2, k.key[:])
	st.BindInt64(3, f.event)
	st.BindBytes(4, f.id[:])
	st.BindBytes(5, f.fingerprint[:])
	st.BindInt64(6, f.at)
	return st.Exec()
}

func (w *sweep) window(source int64) time.Duration {
	if d, ok := w.policy.Windows[w.sourceNames[source]]; ok {
		return d
	}
	return w.policy.DefaultWindow
}

// forget deletes the records of keys whose window has ended since their event was deleted, with what came for it
// meanwhile.
func (w *sweep) forget() error {
	left := sweepStep
	for source := range w.sourceNames {
		type record struct {
			key   recentKey
			event int64
		}
		var records []record
		st := w.db.Writer.Stmt("SELECT key, event FROM outlived WHERE source = ? AND at <= ? ORDER BY at LIMIT ?")
		st.Bind(source, w.now-ceil(w.window(source)), int64(left))
		if err := st.Each(func() {
			r := record{recentKey{source: source}, st.ColumnInt64(1)}
			st.ColumnBytes(0, r.key.key[:])
			records = append(records, r)
		}); err != nil {
			return err
		}
		for _, r := range records {
			for _, table := range []string{"variant", "repeat"} {
				st := w.db.Writer.Stmt("DELETE FROM " + table + " WHERE event = ?")
				st.BindInt64(1, r.event)
				if err := st.Exec(); err != nil {
					return err
				}
			}
			st := w.db.Writer.Stmt("DELETE FROM outlived WHERE source = ? AND key = ?")
			st.BindInt64(1, source)
			st.BindBytes(2, r.key.key[:])
			if err := st.Exec(); err != nil {
				return err
			}
		}
		if left -= len(records); left == 0 {
			w.result.More = true
			return nil
		}
	}
	return nil
}
