package sqlitestore

import "github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"

// readyRows collects deliveries of new events that are ready and have rows of their own, by destination. Their rows are
// written by one statement for all that follow one another: to begin a statement on a table with so many indexes costs more
// than a row.
type readyRows map[int64][]eventRange

// eventRange is a range of the sequence.
type eventRange struct{ first, last int64 }

// add adds the delivery of an event, which comes after those added before.
func (r readyRows) add(destination, event int64) {
	ranges := r[destination]
	if n := len(ranges); n > 0 && ranges[n-1].last == event-1 {
		ranges[n-1].last = event
		return
	}
	r[destination] = append(ranges, eventRange{event, event})
}

// save writes the rows, in the transaction of their events.
func (r readyRows) save(c *sqlitefile.Conn) error {
	for destination, ranges := range r {
		for _, events := range ranges {
			st := c.Stmt("INSERT INTO delivery (event, destination, state) SELECT seq, +?1, " + sqlReady + " FROM event WHERE seq >= +?2 AND seq <= +?3")
			st.Bind(destination, events.first, events.last)
			if err := st.Exec(); err != nil {
				return err
			}
		}
	}
	return nil
}
