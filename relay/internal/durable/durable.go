// Package durable makes folders that outlive a loss of power.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// MakeFolder makes a folder with its parents and makes their names durable: a file in a folder whose name is lost with
// the power is lost too. Folders that are there already may have been made a moment ago by somebody who has not synced
// them, as Caddy does with its data folder. So they are synced too, as far as this process may do so and their filesystems
// can. Any other failure is an error, since the folder might be gone after a loss of power.
func MakeFolder(folder string) error {
	parent := filepath.Dir(folder)
	if info, err := os.Stat(folder); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is a file, and no folder; move it away, or configure another path", folder)
		}
		for ; parent != folder; folder, parent = parent, filepath.Dir(parent) {
			if err := SyncFolder(parent); err != nil && !cannot(err) {
				return err
			}
		}
		return nil
	}
	if err := MakeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncFolder(parent)
}

// cannot reports whether a folder cannot be synced by this process, or at all: it may not be read, or is of a filesystem that
// is read-only or writes nothing.
func cannot(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EROFS)
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
