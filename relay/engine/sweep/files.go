package sweep

import (
	"context"
	"errors"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	filesFirst = time.Minute // after the start
	filesEvery = time.Hour
)

// RunFiles has archives delete what is past its age, until ctx ends. It is a loop of its own, since it may take long to walk
// through an archive.
func (s *Sweeper) RunFiles(ctx context.Context, store relay.Store) {
	timer := time.NewTimer(filesFirst)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if settings, lasting := s.params.Settings(); lasting {
			for _, src := range settings.Sources {
				for _, dst := range src.Destinations {
					s.expireFiles(ctx, store, settings, src, dst)
				}
			}
		}
		timer.Reset(filesEvery)
	}
}

func (s *Sweeper) expireFiles(ctx context.Context, store relay.Store, settings *relay.Settings, src *relay.Source, dst *relay.Destination) {
	archive, ok := dst.Archiver.(relay.FileExpirer)
	if !ok {
		return
	}
	err := guard.Step(func() error {
		return archive.Expire(ctx, func(ctx context.Context, id string) (bool, error) { return delivered(ctx, store, id) })
	})
	if err != nil && ctx.Err() == nil {
		settings.Logger.Error("old files of an archive cannot be deleted yet", "source", src.Name, "error", err, "stack", guard.Stack(err))
	}
}

// delivered reports whether nothing of an event is yet to be delivered. A dead letter may still be redriven.
func delivered(ctx context.Context, store relay.Store, id string) (bool, error) {
	rec, err := store.Event(ctx, id)
	if errors.Is(err, relay.ErrNotFound) {
		return true, nil
	}
	return err == nil && rec.State() == relay.StateDelivered, err
}
