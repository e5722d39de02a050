package sqlitestore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

const (
	scanned      = 1000 // rows that one page of a list looks at
	shownTries   = 1000 // attempts of one event that are shown, the newest
	defaultLimit = 50
)

// read runs f on a reading connection, for no longer than a snapshot may be held.
func (s *Store) read(ctx context.Context, f func(c *sqlitefile.Conn) error) error {
	return sqlitefile.Explain(s.panicked(s.db.Read(ctx, f)))
}

const eventColumns = "seq, id, source, task, stage, code, key, origin, received"

// Events implements relay.Store.
func (s *Store) Events(ctx context.Context, f relay.EventFilter) (events []relay.EventRecord, next string, err error) {
	from, err := parseCursor(f.Cursor)
	if err != nil {
		return nil, "", err
	}
	if f.Oldest && f.Cursor == "" {
		from = f.After
	}
	limit := cmp.Or(max(f.Limit, 0), defaultLimit)
	q := s.sought(&f)
	err = s.read(ctx, func(c *sqlitefile.Conn) (err error) {
		n := 0
		deliveries := func(r *relay.EventRecord) error { return s.readDeliveries(c, r) }
		take := func(st *sqlitefile.Stmt) (done bool, err error) {
			r := s.readEvent(st)
			n++
			if (f.Source == "" || f.Source == r.Source) && millis(r.ReceivedAt) >= q.since && millis(r.ReceivedAt) < q.until {
				if err := deliveries(&r); err != nil {
					return true, err
				}
				if wanted(&f, &r) {
					if err := s.readRepeats(c, &r); err != nil {
						return true, err
					}
					events = append(events, r)
				}
			}
			if len(events) == limit || n == scanned {
				next = strconv.FormatInt(r.Seq, 10)
				return true, nil
			}
			return false, nil
		}
		var seqs []int64
		switch {
		case q.sources == 0:
		case f.TaskID != "":
			seqs, err = s.eventsOf(c, f.TaskID, from, f.Oldest)
		case f.State == relay.StateDead:
			seqs, err = s.deadEvents(c, &f, &q, from)
		default:
			deliveries = (&ahead{Store: s, conn: c, sources: q.sources, oldest: f.Oldest, high: -1}).deliveries
			extents, err := s.extents(c, &q, from, f.Oldest, extentsAPage+1)
			for i, x := range extents {
				if i == extentsAPage {
					next = strconv.FormatInt(extents[i-1].end(f.Oldest), 10)
				}
				if err != nil || next != "" {
					break
				}
				err = x.stmt(c, &q, f.Oldest).Until(take)
			}
			return err
		}
		for _, seq := range seqs {
			if err != nil || next != "" {
				break
			}
			st := c.Stmt("SELECT " + eventColumns + " FROM event WHERE seq = ?1 AND (?2 = '' OR task = ?2)")
			st.BindInt64(1, seq)
			st.BindText(2, f.TaskID)
			err = st.Until(take)
		}
		if next == "" && len(seqs) == scanned { // some of them may be gone, so that fewer rows were looked at
			next = strconv.FormatInt(seqs[scanned-1], 10)
		}
		return err
	})
	return events, next, err
}

func wanted(f *relay.EventFilter, r *relay.EventRecord) bool {
	if f.State != "" && r.State() != f.State {
		return false
	}
	return f.Destination == "" || slices.ContainsFunc(r.Deliveries, func(d relay.DeliveryRecord) bool { return d.Destination == f.Destination })
}

func parseCursor(cursor string) (int64, error) {
	if cursor == "" {
		return never, nil
	}
	seq, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil || seq < 0 {
		return 0, fmt.Errorf("%q: %w", cursor, relay.ErrBadCursor)
	}
	return seq, nil
}

func (s *Store) readEvent(st *sqlitefile.Stmt) relay.EventRecord {
	var id ulid.ULID
	st.ColumnBytes(1, id[:])
	s.mem.Lock()
	source := s.sourceNames[st.ColumnInt64(2)]
	s.mem.Unlock()
	r := relay.EventRecord{Event: relay.Event{
		ID: id.String(), Seq: st.ColumnInt64(0), Source: source, TaskID: st.ColumnText(3), Stage: st.ColumnText(4), Code: st.ColumnText(5),
		Origin: relay.Origin(st.ColumnText(7)), ReceivedAt: fromMillis(st.ColumnInt64(8)),
	}}
	st.ColumnBytes(6, r.Key[:])
	return r
}

// ofEvent are an event's deliveries, looked up one by one for the destinations that its source ever had.
const ofEvent = " FROM destination t CROSS JOIN delivery d ON d.destination = t.id AND d.event = +?1 WHERE t.source = +?2"

// deliveryColumns lists the columns that deliveryOf reads.
const deliveryColumns = "destination, state, due, tries, replay, variant, dead_at, reason"

func (s *Store) readDeliveries(c *sqlitefile.Conn, r *relay.EventRecord) error {
	st := c.Stmt("SELECT " + deliveryColumns + ofEvent)
	s.mem.Lock()
	source := s.sources[r.Source]
	s.mem.Unlock()
	st.Bind(r.Seq, source)
	now := s.clock.now()
	if err := st.Each(func() { r.Deliveries = append(r.Deliveries, s.deliveryOf(st, r.Seq, now)) }); err != nil {
		return err
	}
	p, err := readPack(c, r.Seq)
	r.Deliveries = s.appendPacked(r.Deliveries, r.Seq, p)
	slices.SortFunc(r.Deliveries, byDestination)
	return err
}

func byDestination(a, b relay.DeliveryRecord) int { return cmp.Compare(a.Destination, b.Destination) }

func (s *Store) deliveryOf(st *sqlitefile.Stmt, event, now int64) relay.DeliveryRecord {
	name, leased := s.whose(st.ColumnInt64(0), event)
	rec := relay.DeliveryRecord{
		Destination: name, State: stateOf(st.ColumnInt64(1), leased), Tries: st.ColumnInt(3), Replay: st.ColumnInt(4),
		Variant: st.ColumnInt(5), DeadAt: fromMillis(st.ColumnInt64(6)), Reason: st.ColumnText(7),
	}
	if rec.State == relay.StatePending && st.ColumnInt64(2) < never {
		rec.NextAttempt = duration(max(0, st.ColumnInt64(2)-now))
	}
	return rec
}

func (s *Store) appendPacked(deliveries []relay.DeliveryRecord, event int64, p pack) []relay.DeliveryRecord {
	for i := range p.len() {
		e := p.entry(i)
		name, leased := s.whose(e.destination, event)
		deliveries = append(deliveries, relay.DeliveryRecord{Destination: name, State: stateOf(e.state(), leased), Tries: e.tries()})
	}
	return deliveries
}

// whose returns the name of a destination, and whether its delivery of an event is leased.
func (s *Store) whose(destination, event int64) (name string, leased bool) {
	s.mem.Lock()
	defer s.mem.Unlock()
	d := s.byID[destination]
	return d.name, d.leases[event] != nil
}

func (s *Store) readRepeats(c *sqlitefile.Conn, r *relay.EventRecord) error {
	st := c.Stmt("SELECT duplicates, conflicts FROM repeat WHERE event = ?")
	st.BindInt64(1, r.Seq)
	return st.Each(func() { r.Duplicates, r.Conflicts = st.ColumnInt(0), st.ColumnInt(1) })
}

// Event implements relay.Store.
func (s *Store) Event(ctx context.Context, id string) (rec *relay.EventRecord, err error) {
	key, err := ulid.ParseStrict(id)
	if err != nil {
		return nil, orNotFound(nil, "event %q", id)
	}
	var packings []int64 // of its bodies, the first one and each variant's
	err = s.read(ctx, func(c *sqlitefile.Conn) error {
		s.mem.Lock() // before the snapshot begins: what becomes a run meanwhile is in both
		recent := s.recent.ids[key]
		s.mem.Unlock()
		st := c.Stmt(runColumns + "WHERE earliest <= ?1 AND latest >= ?1 ORDER BY first")
		st.BindInt64(1, int64(key.Time()))
		runs, err := runsOf(st)
		if err != nil {
			return err
		}
		seq, err := seqOf(c, key, recent, runs)
		if err != nil {
			return err
		}
		st = c.Stmt("SELECT " + eventColumns + ", headers, body, packing FROM event WHERE seq = ?")
		st.BindInt64(1, seq)
		var bad error
		if err := st.Each(func() {
			r := s.readEvent(st)
			r.Headers, bad = relay.DecodeHeaders(st.ColumnBlob(9))
			r.Body, packings = st.ColumnBlob(10), append(packings, st.ColumnInt64(11))
			rec = &r
		}); err != nil || bad != nil {
			return cmp.Or(err, bad)
		}
		if rec == nil {
			return orNotFound(nil, "event %q", id)
		}
		for _, part := range []func(*sqlitefile.Conn, *relay.EventRecord) error{s.readDeliveries, s.readRepeats, s.readAttempts, s.readFiles} {
			if err := part(c, rec); err != nil {
				return err
			}
		}
		packings, err = s.readVariants(c, rec, packings)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rec, unpackBodies(rec, packings)
}

// unpackBodies follows the end of the snapshot, which nine bodies of 32 MiB would hold for long.
func unpackBodies(r *relay.EventRecord, packings []int64) (err error) {
	if r.Body, err = unpackBody(r.Body, packings[0]); err != nil {
		return err
	}
	for i := range r.Variants {
		v := &r.Variants[i]
		if v.Body, err = unpackBody(v.Body, packings[1+i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) readAttempts(c *sqlitefile.Conn, r *relay.EventRecord) error {
	st := c.Stmt("SELECT destination, at, duration, status, error, response FROM attempt WHERE event = +? ORDER BY destination, n DESC LIMIT 0 + ?")
	st.Bind(r.Seq, shownTries)
	byName := map[string]*relay.DeliveryRecord{}
	for i := range r.Deliveries {
		byName[r.Deliveries[i].Destination] = &r.Deliveries[i]
	}
	err := st.Each(func() {
		name, _ := s.whose(st.ColumnInt64(0), r.Seq)
		if d := byName[name]; d != nil {
			d.Attempts = append(d.Attempts, relay.Attempt{
				At: fromMillis(st.ColumnInt64(1)), Duration: time.Duration(st.ColumnInt64(2)) * time.Microsecond,
				Status: st.ColumnInt(3), Error: st.ColumnText(4), Response: st.ColumnBlob(5),
			})
		}
	})
	for _, d := range byName {
		slices.Reverse(d.Attempts)
	}
	if err != nil {
		return err
	}
	p, err := readPack(c, r.Seq)
	for i := range p.len() {
		e := p.entry(i)
		name, _ := s.whose(e.destination, r.Seq)
		if a, ok := e.attempt(); ok && byName[name] != nil {
			byName[name].Attempts = []relay.Attempt{a}
		}
	}
	return err
}

// readVariants leaves their bodies as they are stored, and appends how.
func (s *Store) readVariants(c *sqlitefile.Conn, r *relay.EventRecord, packings []int64) ([]int64, error) {
	var bad error
	st := c.Stmt("SELECT n, received, headers, body, packing FROM variant WHERE event = +? ORDER BY n")
	st.BindInt64(1, r.Seq)
	err := st.Each(func() {
		headers, err := relay.DecodeHeaders(st.ColumnBlob(2))
		bad = cmp.Or(bad, err)
		r.Variants = append(r.Variants, relay.Variant{
			N: st.ColumnInt(0), ReceivedAt: fromMillis(st.ColumnInt64(1)), Headers: headers, Body: st.ColumnBlob(3),
		})
		packings = append(packings, st.ColumnInt64(4))
	})
	return packings, cmp.Or(err, bad)
}
