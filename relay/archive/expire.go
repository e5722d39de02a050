package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// abandonedAfter is when a file that is still being written was left by a process that ended: a server that stalls is
// given up long before.
const abandonedAfter = time.Hour

// Expire implements relay.FileExpirer: it deletes files that are older than the folder keeps them, unless their event is not delivered yet, and what a
// process that was killed has left half-written.
func (f *Folder) Expire(ctx context.Context, delivered func(ctx context.Context, eventID string) (bool, error)) error {
	root, err := os.OpenRoot(f.folder)
	if err != nil {
		return ignoreMissing(err) // nothing has been archived yet
	}
	defer func() { _ = root.Close() }()
	// A wall clock that jumps ahead deletes nothing: what has passed since the start is measured by the monotonic clock.
	now := f.opened.Add(time.Since(f.opened))
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || entry.IsDir() {
			return errors.Join(ignoreMissing(err), ctx.Err())
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		age := now.Sub(info.ModTime())
		if strings.HasPrefix(path.Base(name), temporary) {
			if age > abandonedAfter {
				return ignoreMissing(root.Remove(name))
			}
			return nil
		}
		id, ours := eventOf(name)
		if f.keep <= 0 || age <= f.keep || !ours {
			return nil
		}
		gone, err := delivered(ctx, id)
		if err != nil || !gone {
			return err
		}
		return ignoreMissing(root.Remove(name))
	})
}

// ignoreMissing returns err unless it is that another process was faster.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
