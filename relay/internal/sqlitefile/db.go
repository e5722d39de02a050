// Package sqlitefile opens the SQLite file of a store or a spool: locked, marked as ours, private to its owner, and brought
// to the current version. It notices what others do to the file, and opens it anew once that is mended.
package sqlitefile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/durable"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Options describe a file.
type Options struct {
	// Path of the file. Its folder is made where it is missing.
	Path string
	// Kind is its name in messages: store, spool.
	Kind string
	// ApplicationID marks the files of this kind.
	ApplicationID int32
	// Migrations are scripts that bring a file from the version of their index to the next one. They are only added to.
	Migrations []string
	// Settings are pragmas of the writing connection, which come before those that every file has.
	Settings []string
	// Readers is how many connections Read has: one at least, for Mend needs one too.
	Readers int
}

const (
	// blockedAfter is how long a write may wait for the lock of another process before the file counts as unhealthy.
	blockedAfter = time.Second
	// longestRead bounds how long a snapshot is held: the log cannot be begun anew meanwhile.
	longestRead = 2 * time.Second
)

// DB is an open file. Each of its connections, with all the files that it needs, is there from the beginning: a process
// that runs out of descriptors later can still write.
type DB struct {
	// Writer is the one connection that writes, by Write.
	Writer *Conn
	// Keeper is for the one goroutine that maintains the file. Closing interrupts it.
	Keeper *Conn

	o       Options
	lock    lock
	readers chan *Conn
	open    int // readers that there are, in the channel or reading
	watch   watch
	closing context.Context
	close   context.CancelFunc

	fault   atomic.Pointer[error] // why nothing may be written until Mend
	refused atomic.Pointer[error] // of the last write that the file refused, if none has succeeded since
	began   atomic.Int64          // when the write under way began, since epoch; 0 if there is none
}

var epoch = time.Now()

// Open opens a file, and creates it where there is none. relay.ErrStoreLocked (wrapped, naming the holder) means that another
// process still has it after 10 s, relay.ErrStoreHeld (wrapped) that this one has. A file that is not one of ours is left as
// it is.
func Open(ctx context.Context, o Options) (_ *DB, err error) {
	if o.Path, err = filepath.Abs(o.Path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s %s: %w", o.Kind, o.Path, Explain(err))
		}
	}()
	folder := filepath.Dir(o.Path)
	if err := durable.MakeFolder(folder); err != nil {
		return nil, fmt.Errorf("making its folder: %w", err)
	}
	if err := refuseNetworkFilesystem(folder); err != nil {
		return nil, err
	}
	o.Readers = max(o.Readers, 1)
	d := &DB{o: o, readers: make(chan *Conn, o.Readers), watch: watch{path: o.Path}}
	d.closing, d.close = context.WithCancel(context.Background())
	if d.lock, err = acquire(ctx, o.Path, o.Kind); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.release(true))
		}
	}()
	// The file is made here, since SQLite would make it readable for the group.
	if d.watch.db, err = os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := d.watch.endsWithPage(); err != nil {
		return nil, err
	}
	if err := guard.Step(d.connect); err != nil {
		return nil, err
	}
	return d, durable.SyncFolder(folder)
}

// Path returns the absolute path of the file.
func (d *DB) Path() string { return d.o.Path }

// connect opens all connections.
func (d *DB) connect() (err error) {
	if d.Writer, err = connect(d.o.Path, sqlite.OpenReadWrite); err != nil {
		return err
	}
	d.Writer.SetBusyTimeout(lockWait)
	if err := d.checkOurs(); err != nil {
		return err
	}
	d.makePrivate()
	for _, setting := range slices.Concat(d.o.Settings, []string{"journal_mode=wal", "synchronous=full", "wal_autocheckpoint=0", "journal_size_limit=67108864"}) {
		if err := d.Writer.Pragma(setting); err != nil {
			return err
		}
	}
	if err := d.migrate(); err != nil {
		return err
	}
	if d.Keeper, err = connect(d.o.Path, sqlite.OpenReadWrite); err != nil {
		return err
	}
	if err := d.Keeper.touch(); err != nil {
		return err
	}
	d.Keeper.SetInterrupt(d.closing.Done())
	for range d.o.Readers {
		c, err := connect(d.o.Path, sqlite.OpenReadOnly, "query_only=1", "cache_size=-4096")
		if err != nil {
			return err
		}
		d.readers <- c
		d.open++
		if err := c.touch(); err != nil {
			return err
		}
	}
	return d.watch.openLog()
}

// touch has a connection open its log, which it would put off until it first reads.
func (c *Conn) touch() error { return c.Stmt("SELECT count(*) FROM sqlite_schema").Exec() }

// checkOurs refuses a file that something else has written.
func (d *DB) checkOurs() error {
	id, err := d.Writer.Stmt("PRAGMA application_id").Int64()
	if err != nil {
		return err
	}
	tables, err := d.Writer.Stmt("SELECT count(*) FROM sqlite_schema").Int64()
	if err != nil {
		return err
	}
	if id != int64(d.o.ApplicationID) && (id != 0 || tables > 0) {
		return fmt.Errorf("the file is a database of another program; configure another path for this %s", d.o.Kind)
	}
	return nil
}

// makePrivate leaves the file, and those beside it, to their owner alone: one that was restored, or copied from another
// machine, may be open to others, and SQLite makes its log like it. Files of another user stay as they are, and those of a file
// system without modes.
func (d *DB) makePrivate() {
	for _, suffix := range []string{"", logSuffix, indexSuffix, lockSuffix} {
		name := d.o.Path + suffix
		if info, err := os.Stat(name); err == nil && info.Mode().Perm()&0o077 != 0 {
			_ = os.Chmod(name, info.Mode().Perm()&0o700) // callbacks are accepted all the same
		}
	}
}

func (d *DB) migrate() error {
	version, err := d.Writer.Stmt("PRAGMA user_version").Int64()
	if err != nil {
		return err
	}
	if version == 0 { // a file that was marked before its kind had versions is of the first one
		id, err := d.Writer.Stmt("PRAGMA application_id").Int64()
		if err != nil {
			return err
		}
		if id != 0 {
			version = 1
		}
	}
	if version > int64(len(d.o.Migrations)) {
		return fmt.Errorf("the file is of version %d, and this program knows versions up to %d; run the newer program", version, len(d.o.Migrations))
	}
	for ; version < int64(len(d.o.Migrations)); version++ {
		script := fmt.Sprintf("%s;\nPRAGMA application_id=%d;\nPRAGMA user_version=%d;", d.o.Migrations[version], d.o.ApplicationID, version+1)
		if err := d.Writer.script(script); err != nil {
			return fmt.Errorf("migrating to version %d: %w", version+1, err)
		}
	}
	return nil
}

// Write runs change in a transaction, which is durable when it returns nil. Nothing is written while there is a fault.
// Whatever it returns is rolled back, except where a fault was found after the commit: what memory knows of the file counts
// no more then. The caller ensures that there is one write at a time.
func (d *DB) Write(change func() error) error {
	if err := d.Fault(); err != nil {
		return err
	}
	if err := d.watch.writable(); err != nil {
		return d.Break(err)
	}
	d.began.Store(int64(time.Since(epoch)))
	defer d.began.Store(0)
	err := d.Writer.transact(change)
	switch {
	case guard.Faulted(err):
		return d.Break(err)
	case isRefusal(err):
		d.refused.Store(&err)
		return err
	case err != nil:
		return err
	}
	if d.refused.Load() != nil {
		d.refused.Store(nil)
	}
	if err := d.watch.committed(); err != nil {
		return d.Break(err)
	}
	return nil
}

// Read runs f on a reading connection, in one snapshot and for 2 s at most.
func (d *DB) Read(ctx context.Context, f func(*Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, longestRead)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	if err := cmp.Or(d.closed(), d.Fault()); err != nil {
		return err
	}
	var c *Conn
	select {
	case c = <-d.readers:
	case <-ctx.Done():
		return cmp.Or(d.closed(), d.Fault(), d.tooLong(ctx, ctx.Err()))
	}
	defer func() { d.readers <- c }()
	err := guard.Step(func() error {
		c.SetInterrupt(ctx.Done())
		if err := c.Stmt("BEGIN").Exec(); err != nil {
			return err
		}
		return f(c)
	})
	// A connection that stays interrupted would stay in its transaction, and its snapshot in the log.
	back := guard.Step(func() error { c.SetInterrupt(nil); return nil })
	back = errors.Join(back, c.rollBack())
	if guard.Faulted(err) || back != nil {
		return d.Break(errors.Join(err, back))
	}
	switch {
	case err == nil:
		return nil
	case d.closed() != nil:
		return relay.ErrClosed // which interrupts
	case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultInterrupt:
		return d.tooLong(ctx, err)
	}
	return err
}

// tooLong returns an error of a read as one that wraps relay.ErrUnavailable, if the time for it is over.
func (d *DB) tooLong(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %s %s: reading took too long: %w", relay.ErrUnavailable, d.o.Kind, d.o.Path, err)
}

func (d *DB) closed() error {
	if d.closing.Err() != nil {
		return relay.ErrClosed
	}
	return nil
}

// Closing returns a channel that is closed when Stop or Close is called.
func (d *DB) Closing() <-chan struct{} { return d.closing.Done() }

// Stop interrupts what reads, and whatever listens to Closing. It waits for nothing.
func (d *DB) Stop() { d.close() }

// Close closes the file. No write may be under way.
func (d *DB) Close() error {
	d.Stop()
	if d.Check() != nil {
		_ = d.Mend() // so that nothing stays in a log without a name
	}
	return d.release(d.Fault() == nil)
}

func (d *DB) release(tidy bool) error {
	d.Stop()
	err := d.disconnect(tidy)
	if d.watch.db != nil {
		err = errors.Join(err, d.watch.db.Close())
	}
	return errors.Join(err, d.lock.release())
}

// disconnect closes the connections, once nobody reads. The last one to go copies the log into the database and removes
// it, if it may write: so it is the writer in the end, or a reader where the log is not to be trusted.
func (d *DB) disconnect(tidy bool) error {
	readers := make([]*Conn, d.open)
	for i := range readers {
		readers[i] = <-d.readers
	}
	d.open = 0
	var err error
	if tidy {
		for _, c := range readers {
			err = errors.Join(err, c.close())
		}
		err = errors.Join(err, d.Keeper.close(), d.Writer.close())
	} else {
		err = errors.Join(d.Writer.close(), d.Keeper.close())
		for _, c := range readers {
			err = errors.Join(err, c.close())
		}
	}
	d.Writer, d.Keeper = nil, nil
	return errors.Join(err, d.watch.closeLog())
}

// TruncateLog copies what is in the log into the database and empties it, unless somebody reads an old state of the file.
// It waits for nobody. The caller ensures that nothing is being written.
func (d *DB) TruncateLog() error {
	d.Writer.SetBusyTimeout(0)
	defer d.Writer.SetBusyTimeout(lockWait)
	busy, err := d.Writer.Stmt("PRAGMA wal_checkpoint(truncate)").Int64()
	if err == nil && busy != 0 {
		err = errors.New("somebody reads an old state of the file, so that its log grows")
	}
	return err
}
