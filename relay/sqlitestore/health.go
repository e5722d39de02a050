package sqlitestore

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// Counts implements relay.Store.
func (s *Store) Counts() []relay.Count {
	now := s.clock.now()
	s.mem.Lock()
	defer s.mem.Unlock()
	counts := make([]relay.Count, 0, len(s.byID))
	for _, d := range s.byID {
		c := relay.Count{
			Source: d.source, Destination: d.name, Pending: d.pending - int64(len(d.leases)), InFlight: int64(len(d.leases)),
			Delivered: d.delivered, Dead: d.dead, Paused: d.paused, LeaseExpired: d.expired,
		}
		if d.pending > 0 && d.oldestKnown {
			c.OldestPending = duration(max(0, now-d.oldest))
		}
		counts = append(counts, c)
	}
	return counts
}

// measureFree looks how much room is left.
func (s *Store) measureFree() {
	s.free.Store(sqlitefile.FreeBytes(s.db.Path()))
	s.freeAt.Store(int64(s.clock.Elapsed()))
}

// short reports whether there is too little room for new events. Settles go on, since they make room in the end.
func (s *Store) short() bool {
	if s.clock.Elapsed()-time.Duration(s.freeAt.Load()) > freeEvery {
		s.measureFree()
	}
	free := s.free.Load()
	return free >= 0 && free < s.minFree
}

func (s *Store) errShort() error {
	return fmt.Errorf("less than %d MiB are free where %s is, so that new callbacks are refused: %w", s.minFree>>20, s.db.Path(), relay.ErrStoreFull)
}

// Health implements relay.Store. What keep has found out goes first, so that nothing here waits for a write.
func (s *Store) Health(ctx context.Context) error {
	if err := cmp.Or(s.closing(), s.db.Health()); err != nil {
		return err
	}
	s.measureFree()
	if s.short() {
		return s.errShort()
	}
	return s.read(ctx, func(c *sqlitefile.Conn) error { return c.Stmt("SELECT 1 FROM meta LIMIT 1").Exec() })
}

// Info implements relay.Store.
func (s *Store) Info() relay.StoreInfo {
	return relay.StoreInfo{Driver: "sqlite", Location: s.db.Path(), FreeBytes: s.free.Load()}
}

// PerSource implements relay.Store: there is one file, and one transaction for all.
func (s *Store) PerSource() bool { return false }
