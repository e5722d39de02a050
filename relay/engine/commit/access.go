package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/callbackrelay/caddy-relay/relay"
)

// errOpening is the error while the store is still being opened.
var errOpening = fmt.Errorf("%w: it is still being opened", relay.ErrUnavailable)

// Access is the way to a store that may not be open yet, may have failed to open, or may be closed.
type Access struct {
	mu     sync.Mutex
	store  relay.Store
	err    error         // why it could not be opened, or ErrClosed; nil while the first try is under way
	change chan struct{} // closed at the next change
}

// NewAccess returns the access to a store that is being opened.
func NewAccess() *Access { return &Access{change: make(chan struct{})} }

// Store returns the open store. The error is why there is none, and wraps relay.ErrUnavailable or relay.ErrClosed.
func (a *Access) Store() (relay.Store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.get()
}

func (a *Access) get() (relay.Store, error) {
	switch {
	case a.store != nil:
		return a.store, nil
	case a.err != nil:
		return nil, a.err
	}
	return nil, errOpening
}

// Await returns the store as Store does, but waits until ctx ends while it is being opened.
func (a *Access) Await(ctx context.Context) (relay.Store, error) {
	for {
		a.mu.Lock()
		store, err := a.get()
		change := a.change
		a.mu.Unlock()
		if !errors.Is(err, errOpening) {
			return store, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Opening notes that the store is being opened, so that callbacks wait for it.
func (a *Access) Opening() { a.set(nil, nil) }

// Opened makes the store accessible.
func (a *Access) Opened(store relay.Store) { a.set(store, nil) }

// Failed notes why the store could not be opened.
func (a *Access) Failed(err error) { a.set(nil, err) }

// Close makes the store inaccessible for good and returns it, nil if it was not open.
func (a *Access) Close() relay.Store {
	store, _ := a.Store()
	a.set(nil, relay.ErrClosed)
	return store
}

func (a *Access) set(store relay.Store, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.store, a.err = store, err
	close(a.change)
	a.change = make(chan struct{})
}
