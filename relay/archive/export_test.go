package archive

import (
	"os"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Fields returns where the body of an event names files.
func Fields(a *Archive, ev *relay.Event) (files []relay.File) {
	for _, p := range a.places(ev) {
		files = append(files, relay.File{Field: p.field, URL: p.url})
	}
	return files
}

// SetFree makes a folder see a share of free space.
func (f *Folder) SetFree(free func() float64) {
	f.free = func(string) (float64, bool) { return free(), true }
}

// OnSync has a folder call f with each folder whose names it makes durable.
func (f *Folder) OnSync(called func(folder string)) {
	f.known.sync = func(root *os.Root, folder string) error {
		called(folder)
		return syncFolder(root, folder)
	}
}
