package sqlitestore

import (
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
)

// queue holds the events of ready deliveries that stay in their packs, since they are few: what comes faster than it is
// delivered for a moment costs no more than what is leased at once. Once it is full, deliveries have rows until none of
// those is ready, so that all in a queue are older.
type queue []int64

// queued is how many deliveries of a destination a queue holds: a second or two of what a busy gateway accepts, and no more
// than some transactions can unpack.
const queued = 2000

// first is the oldest event; never if there is none.
func (q queue) first() int64 {
	if len(q) == 0 {
		return never
	}
	return q[0]
}

// enqueue queues a delivery that is about to be accepted, and reports whether there is room. The caller holds write.
func (s *Store) enqueue(d *destination, event int64) bool {
	if d.readyMaybe || len(d.queue) >= queued {
		return false
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	d.queue = append(d.queue, event)
	return true
}

// dropQueued removes what accepts have queued that were not committed. The caller holds write.
func (s *Store) dropQueued() {
	s.mem.Lock()
	defer s.mem.Unlock()
	for _, d := range s.byID {
		d.queue = slices.DeleteFunc(d.queue, func(event int64) bool { return event > s.newest })
	}
}

// flush has rows of their own for what a destination's queue holds. The caller holds write, outside of a transaction.
func (s *Store) flush(d *destination) error {
	for len(d.queue) > 0 {
		rest := max(0, len(d.queue)-relay.MaxTouched)
		newest := d.queue[rest:] // first, so that what stays queued is older still if this fails
		if err := s.transact(nil, func() error {
			for _, event := range newest {
				if _, err := s.unpackNow(d, event); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		s.mem.Lock()
		d.cursor = min(d.cursor, newest[0]-1)
		d.readyMaybe, d.queue = true, d.queue[:rest]
		s.mem.Unlock()
	}
	return nil
}

// flushOld flushes what has been queued since before an event: a start would have to look for it among all later events.
func (s *Store) flushOld(before int64) error {
	for _, d := range s.byID {
		if d.queue.first() < before {
			if err := s.flush(d); err != nil {
				return err
			}
		}
	}
	return nil
}
