package commit

import (
	"context"
	"errors"
	"fmt"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// Apply has the store apply a batch. A panic of the store is the error of every operation of the batch.
func Apply(store relay.Store, batch *relay.Batch) {
	err := guard.Step(func() error {
		store.Apply(context.Background(), batch)
		return nil
	})
	if err == nil {
		return
	}
	fail(batch, fmt.Errorf("%w: %w", relay.ErrUnavailable, err))
}

// fail sets the error of every operation of a batch.
func fail(batch *relay.Batch, err error) {
	for _, op := range batch.Settles {
		op.Err = err
	}
	for _, op := range batch.Accepts {
		op.Leased, op.Err = nil, err
	}
	for _, op := range batch.Leases {
		op.Leased, op.Err = nil, err
	}
}

// Failure returns why a batch could not be done, nil if it was. A lease that was lost is no failure of the store.
func Failure(b *relay.Batch) error {
	for _, s := range b.Settles {
		if s.Err != nil && !errors.Is(s.Err, relay.ErrLeaseLost) {
			return s.Err
		}
	}
	for _, a := range b.Accepts {
		if a.Err != nil {
			return a.Err
		}
	}
	for _, l := range b.Leases {
		if l.Err != nil {
			return l.Err
		}
	}
	return nil
}
