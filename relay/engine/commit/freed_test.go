package commit_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// freeing is a store in which every settle frees the delivery of two destinations, of which one has no lane.
type freeing struct{ relay.Store }

func (freeing) PerSource() bool { return true }

func (freeing) Apply(_ context.Context, b *relay.Batch) {
	for _, s := range b.Settles {
		s.Freed = []string{"billing", "gone"}
	}
}

// idle is a lane that wants nothing, and counts how often it is woken.
type idle struct {
	commit.Lane
	woken int
}

func (*idle) Want(int) *relay.Lease    { return nil }
func (*idle) Settled(*commit.Settling) {}
func (l *idle) Wake()                  { l.woken++ }

type idles map[relay.DestinationName]*idle

func (ls idles) Lane(name relay.DestinationName) commit.Lane {
	if l := ls[name]; l != nil {
		return l
	}
	return nil
}

func TestLanesOfFreedDeliveriesAreWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		archive, billing, elsewhere := &idle{}, &idle{}, &idle{}
		cs := commit.New(commit.Params{
			Meter: meter.New(), Logger: func() *slog.Logger { return slog.New(slog.DiscardHandler) }, Stored: func(*relay.Accept) {},
		})
		cs.Run(freeing{}, idles{
			{Source: "vocals", Destination: "archive"}: archive, {Source: "vocals", Destination: "billing"}: billing,
			{Source: "other", Destination: "billing"}: elsewhere,
		})
		l := &relay.Leased{Event: &relay.Event{ID: "1", Source: "vocals"}, Destination: "archive", LeasedAt: time.Now()}
		cs.Of("vocals").Settle(&commit.Settling{Settle: relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered}, Lane: archive})
		synctest.Wait()
		cs.Stop()
		if archive.woken != 0 || billing.woken != 1 || elsewhere.woken != 0 {
			t.Errorf("woken %d, %d and %d times", archive.woken, billing.woken, elsewhere.woken)
		}
	})
}
