package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"
)

// rememberedFolders is how many folders are remembered as durable: a task has one, and its files come soon after each other.
const rememberedFolders = 4096

// folders are those of an archive whose names this process has made durable.
type folders struct {
	sync    func(root *os.Root, folder string) error // makes the names in a folder durable
	mu      sync.Mutex
	durable map[string]bool
}

// make creates a folder with its parents, and syncs their names. The name of one that exists is synced once too: whoever
// created it may have been killed before the sync, or be about to.
func (f *folders) make(root *os.Root, folder string) error {
	if folder == "." {
		return nil
	}
	parent := path.Dir(folder)
	if err := f.make(root, parent); err != nil {
		return err
	}
	err := root.Mkdir(folder, 0o700)
	switch {
	case err == nil:
		f.forget(folder) // somebody has deleted it since
	case !errors.Is(err, fs.ErrExist):
		return err
	case f.has(folder):
		return nil
	}
	if err := f.sync(root, parent); err != nil {
		return err
	}
	f.remember(folder)
	return nil
}

func (f *folders) has(folder string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable[folder]
}

func (f *folders) forget(folder string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.durable, folder)
}

func (f *folders) remember(folder string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.durable == nil || len(f.durable) >= rememberedFolders {
		f.durable = map[string]bool{}
	}
	f.durable[folder] = true
}
