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
// given up long before. A folder in which nothing has changed for so long is not about to get a file either.
const abandonedAfter = time.Hour

// Expire implements relay.FileExpirer: it deletes files that are older than the folder keeps them, unless their event is not
// delivered yet, what a process that was killed has left half-written, and the folders of dates and tasks that are empty then.
func (f *Folder) Expire(ctx context.Context, delivered func(ctx context.Context, eventID string) (bool, error)) error {
	root, err := os.OpenRoot(f.folder)
	if err != nil {
		return ignoreMissing(err) // nothing has been archived yet
	}
	defer func() { _ = root.Close() }()
	// A wall clock that jumps ahead deletes nothing: what has passed since the start is measured by the monotonic clock.
	e := expiry{Folder: f, root: root, now: f.opened.Add(time.Since(f.opened)), delivered: delivered}
	return e.below(ctx, ".")
}

// expiry is one run of Expire.
type expiry struct {
	*Folder
	root      *os.Root
	now       time.Time
	delivered func(ctx context.Context, eventID string) (bool, error)
}

// below deletes what is to go of all that is in a folder, so that the folder itself may be empty then.
func (e *expiry) below(ctx context.Context, folder string) error {
	entries, err := fs.ReadDir(e.root.FS(), folder)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, entry := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := entry.Info() // of before, since a deletion changes the time of a folder
		if err == nil && entry.IsDir() {
			err = e.expireFolder(ctx, path.Join(folder, entry.Name()), e.now.Sub(info.ModTime()))
		} else if err == nil {
			err = e.expireFile(ctx, path.Join(folder, entry.Name()), e.now.Sub(info.ModTime()))
		}
		if err := ignoreMissing(err); err != nil {
			return err
		}
	}
	return nil
}

func (e *expiry) expireFolder(ctx context.Context, folder string, age time.Duration) error {
	if err := e.below(ctx, folder); err != nil {
		return err
	}
	if age > abandonedAfter && isDated(folder) {
		e.known.forget(folder)    // before, or a Put could take the name of its successor for durable
		_ = e.root.Remove(folder) // where it is not empty, this fails
	}
	return nil
}

func (e *expiry) expireFile(ctx context.Context, name string, age time.Duration) error {
	if strings.HasPrefix(path.Base(name), temporary) {
		if age > abandonedAfter {
			return e.root.Remove(name)
		}
		return nil
	}
	id, ours := eventOf(name)
	if e.keep <= 0 || age <= e.keep || !ours {
		return nil
	}
	gone, err := e.delivered(ctx, id)
	if err != nil || !gone {
		return err
	}
	return e.root.Remove(name)
}

// ignoreMissing returns err unless it is that another process was faster.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
