package sqlitefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"github.com/callbackrelay/caddy-relay/relay/internal/durable"
)

// Backup copies the file at a path, which may be in use by another process, to a new file with mode 0600. The copy is one
// state of the file, and durable when Backup returns nil. An existing file is replaced only with overwrite, and only once
// the copy is whole; without it the error wraps fs.ErrExist.
//
// VACUUM INTO is used, and not SQLite's backup interface, because that one begins anew at each commit of another process
// and so never ends beside a busy gateway. Until the copy is done, the log of the file grows.
func Backup(ctx context.Context, kind string, applicationID int32, path, copyTo string, overwrite bool) (err error) {
	if err := checkPlace(copyTo, overwrite); err != nil {
		return err
	}
	source, err := openToRead(ctx, kind, applicationID, path)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, path, Explain(err))
	}
	defer func() { err = errors.Join(err, source.close()) }()

	// The copy is made under another name, so that what stands under the final one is always whole.
	partial, err := os.CreateTemp(filepath.Dir(copyTo), "."+filepath.Base(copyTo)+".*") // which makes it 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(partial.Name()) }() // a name that is gone already is fine
	st := source.Stmt("VACUUM INTO ?")
	st.BindText(1, partial.Name())
	if err := errors.Join(st.Exec(), partial.Sync(), partial.Close()); err != nil {
		return fmt.Errorf("copying %s to %s: %w", path, partial.Name(), Explain(err))
	}
	if err := place(partial.Name(), copyTo, overwrite); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(copyTo))
}

// checkPlace checks that a copy may take a name. Beside a log it may not: that one is of a database in use, which would go on
// without a name, or of one whose process died, and SQLite would apply it to the copy.
func checkPlace(copyTo string, overwrite bool) error {
	if info, err := os.Lstat(copyTo); err == nil {
		if info.IsDir() {
			return fmt.Errorf("%s is a folder; name a file in it", copyTo)
		}
		if !overwrite {
			return fmt.Errorf("%s: %w", copyTo, fs.ErrExist)
		}
	}
	if _, err := os.Lstat(copyTo + logSuffix); err == nil {
		return fmt.Errorf("%s is there, so that a database named %s is in use or was not closed; copy to another file, or stop what uses it and remove that one",
			copyTo+logSuffix, copyTo)
	}
	return nil
}

// openToRead opens an existing file of a kind without its lock, which the process that uses it has.
func openToRead(ctx context.Context, kind string, applicationID int32, path string) (*Conn, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	c, err := connect(path, sqlite.OpenReadOnly)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(lockWait)
	c.SetInterrupt(ctx.Done())
	id, err := c.Stmt("PRAGMA application_id").Int64()
	if err == nil && int32(id) != applicationID {
		err = fmt.Errorf("it is not a %s of Caddy Relay", kind)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// place moves a file to its final name. Only a link refuses an existing name at the very moment it is made; where the
// filesystem knows no links, a look must do.
func place(from, to string, overwrite bool) error {
	if overwrite {
		return os.Rename(from, to)
	}
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s: %w", to, fs.ErrExist)
	}
	return os.Rename(from, to)
}
