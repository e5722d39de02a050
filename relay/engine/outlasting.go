package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// outlasting runs calls of a store that may hang, such as on a disk, for callers who must not.
type outlasting struct {
	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
}

// run runs f and waits for it until ctx ends. f then goes on, and what it does counts all the same.
func (o *outlasting) run(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return relay.ErrClosed
	}
	o.calls.Go(func() { done <- guard.Step(f) })
	o.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
	}
}

// stop waits for the calls under way, and refuses others.
func (o *outlasting) stop() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.calls.Wait()
}
