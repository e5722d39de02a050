package sweep_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/sweep"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// known is a store with some events.
type known struct {
	relay.Store
	events map[string]relay.State
}

func (k known) Event(_ context.Context, id string) (*relay.EventRecord, error) {
	if id == "away" {
		return nil, relay.ErrUnavailable
	}
	state, ok := k.events[id]
	if !ok {
		return nil, relay.ErrNotFound
	}
	return &relay.EventRecord{Deliveries: []relay.DeliveryRecord{{State: relay.StateDelivered}, {State: state}}}, nil
}

// asking is an archive that asks about some events each time.
type asking struct {
	relay.Archiver
	times   int
	answers map[string]bool
	err     error
}

func (a *asking) Expire(ctx context.Context, delivered func(context.Context, string) (bool, error)) error {
	a.times++
	a.answers = map[string]bool{}
	for _, id := range []string{"delivered", "dead", "pending", "leased", "gone"} {
		a.answers[id], _ = delivered(ctx, id)
	}
	_, a.err = delivered(ctx, "away")
	return a.err
}

func TestRunFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		archive := &asking{}
		settings := &relay.Settings{
			Sources: map[string]*relay.Source{"vocals": {Name: "vocals", Destinations: []*relay.Destination{{Name: "app"}, {Name: relay.ArchiveName, Archiver: archive}}}},
			Logger:  slog.New(slog.DiscardHandler),
		}
		var lasting atomic.Bool
		s := sweep.New(sweep.Params{Settings: func() (*relay.Settings, bool) { return settings, lasting.Load() }})
		ctx, cancel := context.WithCancel(t.Context())
		go s.RunFiles(ctx, known{events: map[string]relay.State{
			"delivered": relay.StateDelivered, "dead": relay.StateDead, "pending": relay.StatePending, "leased": relay.StateInFlight,
		}})
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if archive.times != 0 {
			t.Error("files went by settings that may not last")
		}
		lasting.Store(true)
		<-time.After(2 * time.Hour)
		synctest.Wait()
		want := map[string]bool{"delivered": true, "dead": false, "pending": false, "leased": false, "gone": true}
		if archive.times != 2 || !maps.Equal(archive.answers, want) || !errors.Is(archive.err, relay.ErrUnavailable) {
			t.Errorf("%d times: %v %v", archive.times, archive.answers, archive.err)
		}
		cancel()
	})
}
