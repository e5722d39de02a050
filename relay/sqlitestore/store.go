// Package sqlitestore keeps events and deliveries in one SQLite file: the store of a gateway that runs alone.
//
// A commit is durable when it returns (WAL with synchronous=FULL). One process has the file at a time; its leases live
// in memory and are void when it ends, however it ends.
package sqlitestore

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// DefaultMinFree is the free space under which a store takes no new events.
const DefaultMinFree = 256 << 20

const (
	applicationID = 0x52656c79 // "Rely"
	readers       = 4
	cacheKiB      = 16 << 10
)

// migrations bring a file from the version of their index to the next one. They are never changed, only added to.
var migrations = []string{schema, behind, tasks, runs, packed, extents, bodies}

var (
	//go:embed schema.sql
	schema string
	//go:embed behind.sql
	behind string
	//go:embed tasks.sql
	tasks string
	//go:embed runs.sql
	runs string
	//go:embed packed.sql
	packed string
	//go:embed extents.sql
	extents string
	//go:embed bodies.sql
	bodies string
)

// Options set where the store is, and how it behaves.
type Options struct {
	// Path of the database. Its folder is made where it is missing.
	Path string
	// MinFree is the free space in bytes under which new events are refused with relay.ErrStoreFull. Default: 256 MiB.
	MinFree int64
	// Logger; nil discards.
	Logger *slog.Logger
	// Clock is for tests.
	Clock Clock
}

// Store is a relay.Store in a SQLite file.
type Store struct {
	db      *sqlitefile.DB
	minFree int64
	logger  *slog.Logger
	clock   *clock

	// write guards the writing connection and what only its transactions change.
	write   lock
	nextSeq int64
	newest  int64 // the last event that was committed
	minute  int64 // the last one when keepClock last looked
	token   uint64
	closed  bool
	bodies  bodyPacker

	outlived  bool  // there may be keys whose event is gone
	indexFrom int64 // as the constant says, but in tests
	commits   uint64

	// mem guards what memory knows. Who changes it holds write too.
	mem sync.Mutex
	known

	free     atomic.Int64 // bytes, by the last look; -1 where unknown
	freeAt   atomic.Int64
	seen     error // the last fault, as keep has returned it
	stopped  sync.WaitGroup
	walCheck chan struct{}
	panics   chan error
}

// known holds what memory knows of the file's content.
type known struct {
	sources      map[string]int64
	sourceNames  map[int64]string
	destinations map[relay.DestinationName]*destination
	byID         map[int64]*destination
	expected     map[int64]*expected // by source
	runs         []*run              // in the order of the sequence; guarded by write alone
	recent       recent
	cache        cache
}

func newKnown() known {
	return known{
		sources: map[string]int64{}, sourceNames: map[int64]string{},
		destinations: map[relay.DestinationName]*destination{}, byID: map[int64]*destination{}, expected: map[int64]*expected{}, recent: newRecent(), cache: newCache(),
	}
}

// Open opens the store, and makes it where there is none. relay.ErrStoreLocked (wrapped, naming the holder) means that
// another process still has it after 10 s, relay.ErrStoreHeld (wrapped) that this one has. A file that is not a store of ours
// is left as it is.
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	_ = guard.Step(s.findOldest) // so that a backlog has an age from the start; keep looks again, and reports what fails
	s.stopped.Go(s.keep)
	return s, nil
}

// open opens the store, with nobody yet to look after the file.
func open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MinFree == 0 {
		o.MinFree = DefaultMinFree
	}
	s := &Store{
		write: newLock(), minFree: o.MinFree, logger: o.Logger, clock: newClock(o.Clock), indexFrom: indexFrom, walCheck: make(chan struct{}, 1), panics: make(chan error, 8),
		// Tokens begin anywhere, since a settle may come from before the last close.
		token: rand.Uint64() >> 1,
	}
	s.db, err = sqlitefile.Open(ctx, sqlitefile.Options{
		Path: o.Path, Kind: "store", ApplicationID: applicationID, Migrations: migrations, Readers: readers,
		Settings: []string{fmt.Sprintf("cache_size=-%d", cacheKiB)},
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.loadClock(), s.load()); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", s.db.Path(), sqlitefile.Explain(err)), s.db.Close())
	}
	s.measureFree()
	return s, nil
}

// loadClock sets the clock by what was stored of it.
func (s *Store) loadClock() error {
	stored := map[string]int64{}
	st := s.db.Writer.Stmt("SELECT key, value FROM meta")
	if err := st.Each(func() { stored[st.ColumnText(0)] = st.ColumnInt64(1) }); err != nil {
		return err
	}
	if at, ok := stored["clock"]; ok {
		s.clock.resume(at, stored["wall"])
	} else {
		s.clock.base = millis(s.clock.Wall())
	}
	return nil
}

// load reads what memory keeps: names, tallies, sequence, and the events that no run finds yet. The caller holds
// write, or is the only one.
func (s *Store) load() error {
	k, c := newKnown(), s.db.Writer
	outlived, err := c.Stmt("SELECT EXISTS (SELECT 1 FROM outlived)").Int64()
	if err != nil {
		return err
	}
	last, err := c.Stmt("SELECT coalesce(max(seq), 0) FROM event").Int64()
	if err != nil {
		return err
	}
	purged, err := s.meta("seq")
	if err != nil {
		return err
	}
	st := c.Stmt("SELECT id, name FROM source")
	if err := st.Each(func() {
		k.sources[st.ColumnText(1)] = st.ColumnInt64(0)
		k.sourceNames[st.ColumnInt64(0)] = st.ColumnText(1)
	}); err != nil {
		return err
	}
	st = c.Stmt("SELECT id, source, name, paused, pending, delivered, dead, low FROM destination")
	if err := st.Each(func() {
		d := k.newDestination(st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnText(2))
		d.paused = st.ColumnBool(3)
		d.pending, d.delivered, d.dead = st.ColumnInt64(4), st.ColumnInt64(5), st.ColumnInt64(6)
		d.low = st.ColumnInt64(7)
		d.cursor = max(d.low-1, 0)
		d.readyMaybe = d.pending > 0
		if d.pending > 0 {
			d.nextDue = 0
		}
	}); err != nil {
		return err
	}
	if err := errors.Join(s.loadAwaited(&k), s.loadRuns(&k), s.loadExpected(&k)); err != nil {
		return err
	}
	s.outlived = outlived != 0
	s.newest = max(last, purged)
	s.nextSeq = max(s.nextSeq, last+1, purged+1) // nothing that anybody has seen is used again
	s.know(k)
	return errors.Join(s.loadRecent(), s.unpackHeld())
}

// know replaces what memory knows, but for what it alone has counted.
func (s *Store) know(k known) {
	s.mem.Lock()
	defer s.mem.Unlock()
	for name, d := range k.destinations {
		if before := s.destinations[name]; before != nil {
			d.expired = before.expired
		}
	}
	s.known = k
}

func (s *Store) meta(key string) (int64, error) {
	st := s.db.Writer.Stmt("SELECT coalesce((SELECT value FROM meta WHERE key = ?), 0)")
	st.BindText(1, key)
	return st.Int64()
}

func (s *Store) setMeta(key string, value int64) error {
	st := s.db.Writer.Stmt("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2 WHERE value <> ?2")
	st.BindText(1, key)
	st.BindInt64(2, value)
	return st.Exec()
}

// Close implements relay.Store.
func (s *Store) Close() error {
	s.db.Stop()
	s.write.Lock()
	if s.closed {
		s.write.Unlock()
		return nil
	}
	s.closed = true
	s.write.Unlock()
	s.stopped.Wait() // without the lock, which keep may be waiting for
	s.write.Lock()
	defer s.write.Unlock()
	return errors.Join(s.saveClock(), s.db.Close())
}

// alone runs f while nobody else writes, for which it waits until the context ends. While the file is unhealthy it does not
// wait for that. If f panics, what memory knows may be half changed: it is read again from the file, before anything else is
// done.
func (s *Store) alone(ctx context.Context, f func() error) error {
	if err := s.db.Fault(); err != nil {
		return cmp.Or(s.closing(), err)
	}
	var err error
	broken := s.aloneNow(ctx, func() error { err = f(); return nil })
	if broken != nil {
		err = broken
	}
	return sqlitefile.Explain(s.panicked(err))
}

// panicked has keep log the stack of a panic, since whoever writes must not wait for a log (6).
func (s *Store) panicked(err error) error {
	if guard.Stack(err) != "" {
		select {
		case s.panics <- err:
		default: // there are enough of them
		}
	}
	return err
}

func (s *Store) aloneNow(ctx context.Context, f func() error) error {
	if err := s.write.LockWithin(ctx); err != nil {
		return fmt.Errorf("%w: store %s is busy writing: %w", relay.ErrUnavailable, s.db.Path(), err)
	}
	defer s.write.Unlock()
	if s.closed {
		return relay.ErrClosed
	}
	if err := s.db.Fault(); err != nil {
		return err
	}
	if err := guard.Step(f); err != nil {
		return s.db.Break(err)
	}
	return nil
}

// closing returns relay.ErrClosed once Close has begun.
func (s *Store) closing() error {
	select {
	case <-s.db.Closing():
		return relay.ErrClosed
	default:
		return nil
	}
}

var _ relay.Store = (*Store)(nil)
