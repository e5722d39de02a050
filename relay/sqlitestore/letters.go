package sqlitestore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// scannedLetters is how many dead letters one page of a list looks at, which is the index alone.
const scannedLetters = 10_000

// letterPlace is where a dead letter stands in a list of them: ordered by event, and among those of an event by the
// destination's name. Destination 0 is behind all of an event.
type letterPlace struct{ event, destination int64 }

func (p letterPlace) String() string { return fmt.Sprintf("%d.%d", p.event, p.destination) }

func parsePlace(cursor string) (p letterPlace, err error) {
	event, destination, _ := strings.Cut(cursor, ".")
	if p.event, err = strconv.ParseInt(event, 10, 64); err == nil {
		p.destination, err = strconv.ParseInt(destination, 10, 64)
	}
	if err != nil || p.event < 0 || p.destination < 0 {
		return p, fmt.Errorf("%q: %w", cursor, relay.ErrBadCursor)
	}
	return p, nil
}

const (
	// deadBefore finds the dead letters of a destination, newest event first.
	deadBefore = "SELECT event, dead_at FROM delivery INDEXED BY delivery_dead WHERE destination = +? AND state = " + sqlDead + " AND event <= +? ORDER BY event DESC"
	// deadBetween reads what a list shows of them.
	deadBetween = `SELECT d.event, d.tries, d.dead_at, d.reason, e.id, e.task, a.status, a.error
		FROM delivery d INDEXED BY delivery_dead JOIN event e ON e.seq = d.event
		LEFT JOIN attempt a ON a.event = d.event AND a.destination = d.destination AND a.n = d.tries
		WHERE d.destination = ? AND d.state = ` + sqlDead + ` AND d.event >= ? AND d.event <= ? AND d.dead_at >= ? AND d.dead_at < ?`
)

// DeadLetters implements relay.Store. The cursor is the place of the page's last letter, or of the last one looked at.
func (s *Store) DeadLetters(ctx context.Context, sel relay.Selection, limit int, cursor string) (letters []relay.DeadLetter, next string, err error) {
	limit = cmp.Or(max(limit, 0), defaultLimit)
	before := letterPlace{never, never}
	if cursor != "" {
		if before, err = parsePlace(cursor); err != nil {
			return nil, "", err
		}
	}
	err = s.read(ctx, func(c *sqlitefile.Conn) error {
		found, reached, err := s.deadPlaces(c, sel, before, limit+1)
		if err != nil {
			return err
		}
		switch {
		case len(found) > limit:
			found = found[:limit]
			next = found[limit-1].String()
		case reached > 0:
			next = letterPlace{event: reached}.String()
		}
		letters, err = s.readLetters(c, sel, found)
		return err
	})
	return letters, next, err
}

// readLetters reads the dead letters at places, which follow each other in a list.
func (s *Store) readLetters(c *sqlitefile.Conn, sel relay.Selection, places []letterPlace) ([]relay.DeadLetter, error) {
	of := map[int64][]letterPlace{}
	for _, p := range places {
		of[p.destination] = append(of[p.destination], p)
	}
	read := map[letterPlace]relay.DeadLetter{}
	since, until := span(sel.Since, sel.Until)
	for id, places := range of {
		s.mem.Lock()
		d := s.byID[id]
		s.mem.Unlock()
		st := c.Stmt(deadBetween)
		st.Bind(id, places[len(places)-1].event, places[0].event, since, until)
		if err := st.Each(func() {
			var event ulid.ULID
			st.ColumnBytes(4, event[:])
			read[letterPlace{st.ColumnInt64(0), id}] = relay.DeadLetter{
				EventID: event.String(), Source: d.source, TaskID: st.ColumnText(5), Destination: d.name, Attempts: st.ColumnInt(1),
				LastStatus: st.ColumnInt(6), LastError: cmp.Or(st.ColumnText(3), st.ColumnText(7)), DeadAt: fromMillis(st.ColumnInt64(2)),
			}
		}); err != nil {
			return nil, err
		}
	}
	var letters []relay.DeadLetter
	for _, p := range places {
		if l, ok := read[p]; ok {
			letters = append(letters, l)
		}
	}
	return letters, nil
}

// deadPlaces returns the next dead letters of a list after a place, up to a number of them. If reached is positive, it has
// looked at no event before that one.
func (s *Store) deadPlaces(c *sqlitefile.Conn, sel relay.Selection, before letterPlace, most int) (found []letterPlace, reached int64, err error) {
	var destinations []*destination
	names, last := map[int64]string{}, "" // last is that of the letter before
	s.mem.Lock()
	for _, d := range s.byID {
		if matches(sel, d) {
			destinations = append(destinations, d)
			names[d.id] = d.name
		}
	}
	if d := s.byID[before.destination]; d != nil {
		last = d.name
	}
	s.mem.Unlock()
	since, until := span(sel.Since, sel.Until)
	for _, d := range destinations {
		st := c.Stmt(deadBefore)
		st.Bind(d.id, before.event)
		looked, left := 0, most
		if err := st.Until(func(st *sqlitefile.Stmt) (done bool, err error) {
			p, at := letterPlace{st.ColumnInt64(0), d.id}, st.ColumnInt64(1)
			if looked++; looked > max(scannedLetters/len(destinations), 100) && p.event < before.event {
				reached = max(reached, p.event+1)
				return true, nil
			}
			if p.event == before.event && (before.destination == 0 || d.name <= last) {
				return false, nil
			}
			if at >= since && at < until {
				found = append(found, p)
				left--
			}
			return left == 0, nil
		}); err != nil {
			return nil, 0, err
		}
	}
	found = slices.DeleteFunc(found, func(p letterPlace) bool { return p.event < reached })
	slices.SortFunc(found, func(a, b letterPlace) int {
		return cmp.Or(cmp.Compare(b.event, a.event), cmp.Compare(names[a.destination], names[b.destination]))
	})
	return found[:min(len(found), most)], reached, nil
}

// The events of a destination's dead letters.
const (
	deadIn     = "SELECT event FROM delivery INDEXED BY delivery_dead WHERE destination = ? AND state = " + sqlDead + " AND event >= ? AND event <= ? "
	newestDead = deadIn + "ORDER BY event DESC LIMIT ?"
	oldestDead = deadIn + "ORDER BY event LIMIT ?"
)

// deadEvents returns the next events of a list that have a dead letter, as many as one page looks at.
func (s *Store) deadEvents(c *sqlitefile.Conn, f *relay.EventFilter, q *sought, from int64) (events []int64, err error) {
	extents, err := s.extents(c, q, from, f.Oldest, -1)
	if err != nil || len(extents) == 0 {
		return nil, err
	}
	low, high, query := extents[len(extents)-1].first, extents[0].last, newestDead
	if f.Oldest {
		low, high, query = extents[0].first, extents[len(extents)-1].last, oldestDead
	}
	var destinations []int64
	s.mem.Lock()
	for _, d := range s.byID {
		if d.dead > 0 && (f.Source == "" || f.Source == d.source) {
			destinations = append(destinations, d.id)
		}
	}
	s.mem.Unlock()
	for _, d := range destinations {
		st := c.Stmt(query)
		st.Bind(d, low, high, scanned)
		if err := st.Each(func() { events = append(events, st.ColumnInt64(0)) }); err != nil {
			return nil, err
		}
	}
	slices.Sort(events)
	if events = slices.Compact(events); !f.Oldest {
		slices.Reverse(events)
	}
	return events[:min(len(events), scanned)], nil
}
