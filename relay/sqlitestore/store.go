// Package sqlitestore keeps events and deliveries in one SQLite file: the store of a gateway that runs alone.
//
// A commit is durable when it returns (WAL with synchronous=FULL). One process has the file at a time; its leases live
// in memory and are void when it ends, however it ends.
package sqlitestore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/durable"
)

// DefaultMinFree is the free space under which a store takes no new events.
const DefaultMinFree = 256 << 20

const (
	applicationID = 0x52656c79 // "Rely"
	lockWait      = 10 * time.Second
	lockRetry     = 100 * time.Millisecond
	readers       = 4
	cacheKiB      = 16 << 10
)

// migrations bring a file from the version of their index to the next one. They are never changed, only added to.
var migrations = []string{schema}

//go:embed schema.sql
var schema string

// Options say where the store is.
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
	path    string
	minFree int64
	logger  *slog.Logger
	lock    *flock.Flock
	clock   *clock

	// write guards the writing connection and what only its transactions change.
	write   sync.Mutex
	conn    *sqlite.Conn
	nextSeq int64
	token   uint64
	closed  bool
	recent  recent
	cache   cache

	outlived  bool  // there may be keys whose event is gone
	indexFrom int64 // as the constant says, but in tests
	commits   uint64

	readers *sqlitex.Pool

	// mem guards what memory knows. Who changes it holds write too.
	mem          sync.Mutex
	sources      map[string]int64
	sourceNames  map[int64]string
	destinations map[relay.DestinationName]*destination
	byID         map[int64]*destination

	free     atomic.Int64 // bytes, by the last look; -1 where unknown
	freeAt   atomic.Int64
	stop     chan struct{}
	stopped  sync.WaitGroup
	walCheck chan struct{}
}

// Open opens the store, and makes it where there is none. relay.ErrStoreLocked (wrapped, naming the holder) says that
// another process still has it after 10 s. A file that is not a store of ours is left as it is.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MinFree == 0 {
		o.MinFree = DefaultMinFree
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, minFree: o.MinFree, logger: o.Logger, clock: newClock(o.Clock),
		sources: map[string]int64{}, sourceNames: map[int64]string{},
		destinations: map[relay.DestinationName]*destination{}, byID: map[int64]*destination{}, recent: newRecent(), cache: newCache(), indexFrom: indexFrom,
		stop: make(chan struct{}), walCheck: make(chan struct{}, 1),
		// Tokens begin anywhere, since a settle may come from before the last close.
		token: rand.Uint64() >> 1,
	}
	if err := durable.MakeFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("making the store's folder: %w", err)
	}
	if err := refuseNetworkFilesystem(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	if err := s.acquire(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if err := s.openWriter(); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, explain(err))
	}
	if err := errors.Join(s.load(), s.loadRecent()); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, explain(err))
	}
	s.readers, err = sqlitex.NewPool(path, sqlitex.PoolOptions{
		Flags: sqlite.OpenReadOnly, PoolSize: readers,
		PrepareConn: func(c *sqlite.Conn) error { return pragmas(c, "query_only=1", "cache_size=-4096") },
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, explain(err))
	}
	keeper, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, explain(err))
	}
	s.measureFree()
	s.stopped.Go(func() { s.keep(keeper) })
	return s, nil
}

// acquire takes the lock file, which says who has the store.
func (s *Store) acquire(ctx context.Context) error {
	name := s.path + ".lock"
	s.lock = flock.New(name, flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	locked, err := s.lock.TryLockContext(ctx, lockRetry)
	if locked {
		return os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("locking the store: %w", err)
	}
	holder := "another process"
	if pid, err := os.ReadFile(name); err == nil && len(pid) > 0 {
		holder = "process " + strings.TrimSpace(string(pid))
	}
	return fmt.Errorf("store %s is in use by %s; stop that one, or give this one a store of its own: %w", s.path, holder, relay.ErrStoreLocked)
}

func (s *Store) release() {
	if s.readers != nil {
		_ = s.readers.Close()
	}
	if s.conn != nil {
		_ = s.conn.Close()
	}
	_ = s.lock.Unlock() // the lock ends with the process at the latest
}

// openWriter opens the one connection that writes, and brings the file to the current version.
func (s *Store) openWriter() (err error) {
	// The file is made by us, since SQLite would make it readable for the group.
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	s.conn, err = sqlite.OpenConn(s.path, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	s.conn.SetBusyTimeout(lockWait)
	if err := checkOurs(s.conn); err != nil {
		return err
	}
	if err := pragmas(
		s.conn, "journal_mode=wal", "synchronous=full", "wal_autocheckpoint=0", "journal_size_limit=67108864",
		"temp_store=memory", fmt.Sprintf("cache_size=-%d", cacheKiB),
	); err != nil {
		return err
	}
	if err := s.migrate(); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(s.path))
}

func pragmas(c *sqlite.Conn, settings ...string) error {
	for _, p := range settings {
		if err := sqlitex.ExecuteTransient(c, "PRAGMA "+p, nil); err != nil {
			return err
		}
	}
	return nil
}

// checkOurs refuses a file that something else has written.
func checkOurs(c *sqlite.Conn) error {
	id, err := sqlitex.ResultInt64(mustPrepare(c, "PRAGMA application_id"))
	if err != nil {
		return err
	}
	tables, err := sqlitex.ResultInt64(mustPrepare(c, "SELECT count(*) FROM sqlite_schema"))
	if err != nil {
		return err
	}
	if id != applicationID && (id != 0 || tables > 0) {
		return errors.New("the file is a database of another program; give the store another path")
	}
	return nil
}

func mustPrepare(c *sqlite.Conn, query string) *sqlite.Stmt { return c.Prep(query) }

func (s *Store) migrate() (err error) {
	version, err := sqlitex.ResultInt(s.conn.Prep("PRAGMA user_version"))
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("the file is of version %d, and this program knows versions up to %d; run the newer program", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		script := fmt.Sprintf("%s;\nPRAGMA application_id=%d;\nPRAGMA user_version=%d;", migrations[version], applicationID, version+1)
		if err := sqlitex.ExecuteScript(s.conn, script, nil); err != nil {
			return fmt.Errorf("migrating to version %d: %w", version+1, err)
		}
	}
	return nil
}

// load reads what memory keeps: names, tallies, sequence and clock.
func (s *Store) load() error {
	stored := map[string]int64{}
	err := sqlitex.Execute(s.conn, "SELECT key, value FROM meta", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		stored[st.ColumnText(0)] = st.ColumnInt64(1)
		return nil
	}})
	if err != nil {
		return err
	}
	if _, ok := stored["clock"]; ok {
		s.clock.resume(stored["clock"], stored["wall"])
	} else {
		s.clock.base = millis(s.clock.Wall())
	}
	if s.outlived, err = sqlitex.ResultBool(s.conn.Prep("SELECT EXISTS (SELECT 1 FROM outlived)")); err != nil {
		return err
	}
	last, err := sqlitex.ResultInt64(s.conn.Prep("SELECT coalesce(max(seq), 0) FROM event"))
	if err != nil {
		return err
	}
	s.nextSeq = max(last, stored["seq"]) + 1
	err = sqlitex.Execute(s.conn, "SELECT id, name FROM source", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		s.sources[st.ColumnText(1)] = st.ColumnInt64(0)
		s.sourceNames[st.ColumnInt64(0)] = st.ColumnText(1)
		return nil
	}})
	if err != nil {
		return err
	}
	return sqlitex.Execute(s.conn, "SELECT id, source, name, paused, pending, delivered, dead, low FROM destination",
		&sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			d := s.newDestination(st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnText(2))
			d.paused = st.ColumnBool(3)
			d.pending, d.delivered, d.dead = st.ColumnInt64(4), st.ColumnInt64(5), st.ColumnInt64(6)
			d.low = st.ColumnInt64(7)
			d.cursor = max(d.low-1, 0)
			d.readyMaybe = d.pending > 0
			if d.pending > 0 {
				d.nextDue = 0
			}
			return nil
		}})
}

func (s *Store) meta(key string) (int64, error) {
	st := s.conn.Prep("SELECT coalesce((SELECT value FROM meta WHERE key = ?), 0)")
	st.BindText(1, key)
	return sqlitex.ResultInt64(st)
}

func (s *Store) setMeta(key string, value int64) error {
	st := s.conn.Prep("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2 WHERE value <> ?2")
	st.BindText(1, key)
	st.BindInt64(2, value)
	return exec(st)
}

// Close implements relay.Store.
func (s *Store) Close() error {
	s.write.Lock()
	if s.closed {
		s.write.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.write.Unlock()
	s.stopped.Wait() // without the lock, which keep may be waiting for
	s.write.Lock()
	defer s.write.Unlock()
	err := s.saveClock()
	err = errors.Join(err, s.readers.Close())
	// The last connection's close checkpoints the log and removes it.
	err = errors.Join(err, s.conn.Close())
	return errors.Join(err, s.lock.Unlock())
}

// explain says what to do about the errors of SQLite that an operator can mend.
func explain(err error) error {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultNotADB, sqlite.ResultCorrupt:
		return fmt.Errorf("the file is damaged, or no database; move it away or restore it from a backup: %w", err)
	case sqlite.ResultCantOpen, sqlite.ResultPerm, sqlite.ResultReadOnly:
		return fmt.Errorf("the file cannot be opened for writing; check owner and permissions of it and its folder: %w", err)
	case sqlite.ResultFull:
		return fmt.Errorf("the disk is full: %w: %w", relay.ErrStoreFull, err)
	}
	return err
}

// PerSource implements relay.Store: one connection writes for all.
func (s *Store) PerSource() bool { return false }

var _ relay.Store = (*Store)(nil)
