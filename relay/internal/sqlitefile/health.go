package sqlitefile

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// probeWait is how long a probe waits for the lock: a lock that is held for less is no trouble.
const probeWait = 250 * time.Millisecond

// Fault returns why the file cannot be used until Mend has succeeded, or nil.
func (d *DB) Fault() error {
	if err := d.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Break notes that the file, or what memory knows of it, cannot be trusted until Mend. It returns the fault, which wraps
// relay.ErrUnavailable.
func (d *DB) Break(why error) error {
	err := fmt.Errorf("%w: %s %s: %w", relay.ErrUnavailable, d.o.Kind, d.o.Path, Explain(why))
	d.fault.CompareAndSwap(nil, &err)
	return err
}

// Check looks whether the file is what was opened, with its log and the log's index, and whole. What it finds is a fault.
func (d *DB) Check() error {
	if err := d.Fault(); err != nil {
		return err
	}
	if err := d.watch.check(); err != nil {
		return d.Break(err)
	}
	return nil
}

// Health returns why a write would fail, or nil. It answers from what was seen last and never waits.
func (d *DB) Health() error {
	if err := d.Fault(); err != nil {
		return err
	}
	if began := d.began.Load(); began != 0 {
		if time.Since(epoch)-time.Duration(began) > blockedAfter {
			return fmt.Errorf("%w: %s %s: a write has been waiting for more than %s, for another process's lock or for the disk",
				relay.ErrUnavailable, d.o.Kind, d.o.Path, blockedAfter)
		}
	}
	if err := d.refused.Load(); err != nil {
		return fmt.Errorf("%s %s cannot be written: %w", d.o.Kind, d.o.Path, Explain(*err))
	}
	return nil
}

// Probe finds out whether the file can be written: whether its lock is free, and where the last write was refused whether
// this small one is taken. The caller ensures that nothing else is being written.
func (d *DB) Probe(small func() error) error {
	if err := d.Fault(); err != nil {
		return err
	}
	d.Writer.SetBusyTimeout(probeWait)
	defer d.Writer.SetBusyTimeout(lockWait)
	if d.refused.Load() != nil {
		return d.Write(small)
	}
	err := guard.Step(func() error { return d.Writer.Stmt("BEGIN IMMEDIATE").Exec() })
	if back := d.Writer.rollBack(); back != nil || guard.Faulted(err) {
		return d.Break(errors.Join(err, back))
	}
	if err != nil {
		err = notDone(err)
		d.refused.Store(&err)
	}
	return err
}

// LogBytes returns how much of the log is in use.
func (d *DB) LogBytes() (int64, error) {
	if err := d.Fault(); err != nil {
		return 0, err
	}
	return d.watch.bytesInLog()
}

// isRefusal reports whether an error is the file's, and not that of what was to be written.
func isRefusal(err error) bool {
	if err == nil {
		return false
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultNoMem, sqlite.ResultReadOnly, sqlite.ResultIOErr, sqlite.ResultCorrupt,
		sqlite.ResultFull, sqlite.ResultCantOpen, sqlite.ResultPerm, sqlite.ResultNotADB:
		return true
	}
	return false
}

// unavailable returns a refusal as one that wraps relay.ErrUnavailable, or relay.ErrStoreFull where the disk is full: what is
// small may still fit.
func unavailable(err error) error {
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultFull {
		return Explain(err)
	}
	return notDone(err)
}

// Explain adds to an error of SQLite what an operator can do about it.
func Explain(err error) error {
	if errors.Is(err, relay.ErrStoreFull) {
		return err // it was explained
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultNotADB, sqlite.ResultCorrupt:
		return fmt.Errorf("the file is damaged, or no database; move it away, or restore it from a backup without the -wal and -shm beside it: %w", err)
	case sqlite.ResultCantOpen, sqlite.ResultPerm, sqlite.ResultReadOnly:
		return fmt.Errorf("the file cannot be opened for writing; check owner and permissions of it and its folder: %w", err)
	case sqlite.ResultFull:
		return fmt.Errorf("the disk is full; free space on it: %w: %w", relay.ErrStoreFull, err)
	case sqlite.ResultIOErr:
		return fmt.Errorf("the disk fails, or refuses what is written; look for its reason in the system's log: %w", err)
	case sqlite.ResultBusy, sqlite.ResultLocked:
		return fmt.Errorf("another process holds its lock; end what that one does with the file: %w", err)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("check owner and permissions of it and its folder: %w", err)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("a folder has its name; remove that, or configure another path: %w", err)
	}
	return err
}
