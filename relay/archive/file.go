package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/durable"
)

const (
	minFree = 10 // percent of a disk that are left free
	// checkEvery is how many bytes are written before the free space is looked at again.
	checkEvery = 16 << 20
	temporary  = ".part-" // begins the names of files that are being written
)

// errDiskFull is why nothing is written to a disk.
var errDiskFull = fmt.Errorf("the archive's disk has less than %d%% free", minFree)

// Folder is a Storage in a folder. Its files are readable by the gateway's user alone, and on disk when Put returns.
type Folder struct {
	folder string
	keep   time.Duration
	free   func(folder string) (percent float64, ok bool)
	opened time.Time
	made   atomic.Bool // the folder, durably
	known  folders     // of those below it
}

// NewFolder returns a storage in a folder, which is made when the first file comes. keep is how long Expire leaves files;
// zero: for ever.
func NewFolder(folder string, keep time.Duration) (*Folder, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	return &Folder{folder: folder, keep: keep, free: freePercent, opened: time.Now(), known: folders{sync: syncFolder}}, nil
}

// Put implements Storage.
func (f *Folder) Put(ctx context.Context, name string, r io.Reader, _ int64, _ string) error {
	if !filepath.IsLocal(filepath.FromSlash(name)) || path.Clean(name) != name {
		return fmt.Errorf("%q is no name of a file in the archive", name)
	}
	err := f.put(ctx, name, r)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("writing to the archive: %w", e.Err)
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return fmt.Errorf("writing to the archive: %w", e.Err)
	}
	return err
}

func (f *Folder) put(ctx context.Context, name string, r io.Reader) (err error) {
	if err := f.make(); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.folder) // no name, and no link, leads out of it
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := f.room(); err != nil {
		return err
	}
	folder := path.Dir(name)
	part := path.Join(folder, temporary+rand.Text())
	file, err := f.create(root, part)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = f.create(root, part) // Expire has removed the folder, which was empty and old
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(part)
		}
	}()
	if err := f.write(ctx, file, r); err != nil {
		_ = file.Close()
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := root.Rename(part, name); err != nil {
		return err
	}
	return f.known.sync(root, folder)
}

// create opens a new file, in a folder that it makes.
func (f *Folder) create(root *os.Root, name string) (*os.File, error) {
	if err := f.known.make(root, path.Dir(name)); err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// make creates the folder, and syncs its name unless that was done before: a folder that exists may not be durable yet.
func (f *Folder) make() error {
	if _, err := os.Stat(f.folder); err == nil && f.made.Load() {
		return nil
	}
	if err := durable.MakeFolder(f.folder); err != nil {
		return err
	}
	f.made.Store(true)
	return nil
}

// write copies r to a file for as long as there is room.
func (f *Folder) write(ctx context.Context, file *os.File, r io.Reader) error {
	buffer := make([]byte, 256<<10)
	for ctx.Err() == nil {
		// The wrapper hides ReadFrom, which would go around the buffer.
		n, err := io.CopyBuffer(struct{ io.Writer }{file}, io.LimitReader(r, checkEvery), buffer)
		if err != nil || n < checkEvery {
			return err
		}
		if err := f.room(); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (f *Folder) room() error {
	if percent, ok := f.free(f.folder); ok && percent < minFree {
		return errDiskFull
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(root *os.Root, folder string) error {
	d, err := root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
