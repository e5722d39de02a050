package sqlitestore

import "slices"

// queue holds the events of ready deliveries that stay in their packs, since they are few: what comes faster than it is
// delivered for a moment costs no more than what is leased at once. Once it is full, deliveries have rows until none of
// those is ready, so that all in a queue are older.
type queue []int64

// queued is how many deliveries of a destination a queue holds. All of them can be unpacked in one transaction (11).
const queued = 250

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
	if len(d.queue) == 0 {
		return nil
	}
	if err := s.transact(nil, func() error {
		for _, event := range d.queue {
			if _, err := s.unpackNow(d, event); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	s.mem.Lock()
	defer s.mem.Unlock()
	d.cursor = min(d.cursor, d.queue[0]-1)
	d.readyMaybe, d.queue = true, nil
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
