package sqlitestore

import (
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

const (
	aheadEvents = 64 // of how many events deliveries are read at once
	// aheadDestinations is for how many destinations that is worth it: each costs a statement, and each event would cost some.
	aheadDestinations = 16
)

// ahead reads what lists show of events beside their rows: for many events at once, where the list goes from one to the next.
type ahead struct {
	*Store
	conn    *sqlitefile.Conn
	sources int64 // of the events: a set of sourceBit
	oldest  bool

	destinations []int64 // that the events may have deliveries to; nil before they are needed
	low, high    int64   // what has been read
	read         map[int64][]relay.DeliveryRecord
}

// deliveries completes the deliveries of an event.
func (a *ahead) deliveries(r *relay.EventRecord) error {
	if a.destinations == nil {
		a.find()
	}
	if len(a.destinations) > aheadDestinations {
		return a.readDeliveries(a.conn, r)
	}
	if r.Seq < a.low || r.Seq > a.high {
		if err := a.readFrom(r.Seq); err != nil {
			return err
		}
	}
	r.Deliveries = a.read[r.Seq]
	slices.SortFunc(r.Deliveries, byDestination)
	return nil
}

// find finds the destinations, once the snapshot has begun: memory knows those of all events in it.
func (a *ahead) find() {
	a.mem.Lock()
	defer a.mem.Unlock()
	a.destinations = []int64{}
	for _, d := range a.byID {
		if sourceBit(d.sourceID)&a.sources != 0 {
			a.destinations = append(a.destinations, d.id)
		}
	}
}

// What the events of a range have.
const (
	deliveriesIn = "SELECT " + deliveryColumns + ", event FROM delivery WHERE destination = +? AND event >= ? AND event <= ?"
	packsIn      = "SELECT event, deliveries FROM packed WHERE event >= ? AND event <= ?"
)

func (a *ahead) readFrom(seq int64) error {
	a.low, a.high = seq-aheadEvents+1, seq
	if a.oldest {
		a.low, a.high = seq, seq+aheadEvents-1
	}
	a.read = map[int64][]relay.DeliveryRecord{}
	now := a.clock.now()
	for _, d := range a.destinations {
		st := a.conn.Stmt(deliveriesIn)
		st.Bind(d, a.low, a.high)
		if err := st.Each(func() {
			event := st.ColumnInt64(8)
			a.read[event] = append(a.read[event], a.deliveryOf(st, event, now))
		}); err != nil {
			return err
		}
	}
	st := a.conn.Stmt(packsIn)
	st.Bind(a.low, a.high)
	return st.Each(func() {
		event := st.ColumnInt64(0)
		a.read[event] = a.appendPacked(a.read[event], event, st.ColumnBlob(1))
	})
}
