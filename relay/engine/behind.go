package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
)

// behindArchive reports whether a replayed delivery has to wait for the archive's, which may have been replayed with it: stores
// know that only of deliveries that were accepted together. It waits, too, while that cannot be told.
func (e *Engine) behindArchive(ctx context.Context, dst *relay.Destination, d *relay.Leased) bool {
	src := e.Source(d.Event.Source)
	if src == nil || intake.Behind(dst, intake.ArchiveOf(src)) == "" {
		return false
	}
	store, err := e.Store()
	if err != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, e.options.StoreTimeout)
	defer cancel()
	rec, err := store.Event(ctx, d.Event.ID)
	if err != nil {
		return !errors.Is(err, relay.ErrNotFound)
	}
	return slices.ContainsFunc(rec.Deliveries, func(other relay.DeliveryRecord) bool {
		return other.Destination == relay.ArchiveName && (other.State == relay.StatePending || other.State == relay.StateInFlight)
	})
}
