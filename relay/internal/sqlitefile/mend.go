package sqlitefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/callbackrelay/caddy-relay/relay/internal/durable"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Mend opens the file anew after a fault, if it is the one that was open: what memory knows of its content must be read
// again. A log that lost its name gets it back. A log that somebody has cut loses what was cut; what is left is checked. It
// returns why the fault continues, if it does. The caller ensures that nothing is being written.
func (d *DB) Mend() error {
	err := guard.Step(d.mend)
	d.fault.Store(nil)
	if err != nil {
		return d.Break(err)
	}
	d.refused.Store(nil)
	return nil
}

func (d *DB) mend() error {
	if err := d.watch.checkDatabase(); err != nil {
		_ = d.watch.setLogAside() // it is tried again
		return err
	}
	if d.Writer != nil {
		if err := d.putDown(); err != nil {
			return err
		}
	}
	if err := guard.Step(d.connect); err != nil {
		return errors.Join(err, d.disconnect(false))
	}
	if d.watch.cut {
		if err := d.checkContent(); err != nil {
			return errors.Join(err, d.disconnect(false))
		}
		d.watch.cut = false
	}
	return nil
}

// putDown closes all connections, and leaves the log so that it can be opened again. It notes whether somebody has cut it.
// The log is what is left of it only in an open file, if it has lost its name: so it is closed last, and not before it has
// been saved.
func (d *DB) putDown() error {
	w := &d.watch
	_, size, err := linksAndSize(w.log)
	if err != nil {
		return err
	}
	short := size < w.logEnd
	_, unlike := w.wholeLog()
	h, err := w.header()
	known := err == nil && w.wholeIndex() == nil
	if !known {
		// Else to close what has it mapped would be a memory fault. Once it is empty the next one to read fills it from the log.
		if err := errors.Join(w.index.Truncate(0), w.index.Truncate(max(w.indexSize, 1<<20))); err != nil {
			return err
		}
	}
	cut := short || known && unlike != nil
	w.cut = w.cut || cut
	if cut && known {
		if err := w.restoreHead(h); err != nil {
			return err
		}
	}
	if cut && known && w.wholeFrames(h, size) < h.copied {
		// What is left is older than the database, and would be written over it. Once empty it does no harm.
		err = dropLog(w.log)
	} else {
		err = nameAgain(w.log)
	}
	if err != nil {
		return err
	}
	// A connection that cannot be closed stays open. If it holds a lock, the file can be written again after a restart.
	_ = d.disconnect(false)
	return nil
}

// restoreHead writes the log's head again, as it was when it was last seen whole: the frames behind it may all be there.
func (w *watch) restoreHead(h logHeader) error {
	if _, err := w.wholeHead(h); err == nil || w.head == nil || int64(binary.NativeEndian.Uint64(w.head[16:])) != h.salt {
		return nil // of an earlier round: it is of no use
	}
	_, err := w.log.WriteAt(w.head, 0)
	return err
}

// wholeFrames returns how many frames a log of this size has from its beginning.
func (w *watch) wholeFrames(h logHeader, size int64) (n uint32) {
	for n < h.frames && size >= h.frameAt(n+2) && w.holds(h, n+1) {
		n++
	}
	return n
}

// dropLog empties the log. What has its name meanwhile is put aside.
func dropLog(f *os.File) error {
	if sameFile(f, f.Name()) == nil {
		return os.Truncate(f.Name(), 0)
	}
	return putAside(f.Name())
}

func putAside(name string) error {
	if err := os.Rename(name, name+asideSuffix); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// setLogAside renames the log beside another database that has the name by now. Whoever opened that one would find the
// log, and write it over what is there. Mend brings it back with its own database.
func (w *watch) setLogAside() error {
	other, err := os.Stat(w.path)
	if other == nil || w.log == nil || sameFile(w.db, w.path) == nil || sameFile(w.log, w.log.Name()) != nil {
		return err
	}
	return putAside(w.log.Name())
}

const asideSuffix = ".replaced"

// nameAgain restores the name of an open file, by a copy. What has the name meanwhile is put aside.
func nameAgain(f *os.File) error {
	name := f.Name()
	if sameFile(f, name) == nil {
		return nil
	}
	_, size, err := linksAndSize(f)
	if err != nil {
		return err
	}
	part := name + ".part"
	to, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.NewSectionReader(f, 0, size))
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := putAside(name); err != nil {
		return err
	}
	return errors.Join(os.Rename(part, name), durable.SyncFolder(filepath.Dir(name)))
}

// checkContent has SQLite look through the whole file.
func (d *DB) checkContent() error {
	verdict := ""
	err := guard.Step(func() error {
		st := d.Keeper.Stmt("PRAGMA quick_check(1)")
		return st.Each(func() { verdict = st.ColumnText(0) })
	})
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("after it was cut the file is damaged: %s; restore it from a backup", verdict)
	}
	return err
}
