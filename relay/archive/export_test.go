package archive

import (
	"context"
	"net/http"
	"os"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Fields returns where the body of an event names files.
func Fields(a *Archive, ev *relay.Event) (files []relay.File) {
	places, _, _ := a.places(context.Background(), ev)
	for _, p := range places {
		files = append(files, relay.File{Field: p.field, URL: p.url})
	}
	return files
}

// SetTransport sets what an archive sends its requests with.
func SetTransport(a *Archive, rt http.RoundTripper) { a.fetcher.client.Transport = rt }

// SetFree sets the share of free space that a folder sees.
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
