package engine_test

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// TestAClockThatWasSetBack operates on what a gateway has stored while its wall clock was hours ahead.
func TestAClockThatWasSetBack(t *testing.T) {
	var ahead atomic.Int64
	path := filepath.Join(t.TempDir(), "relay.db")
	open := func(ctx context.Context, _ *slog.Logger) (relay.Store, error) {
		return sqlitestore.Open(ctx, sqlitestore.Options{
			Path: path, MinFree: 1, Logger: slog.New(slog.DiscardHandler),
			Clock: sqlitestore.Clock{Wall: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }},
		})
	}
	a := newConsumer(t, func(n int, _ *http.Request) int { return []int{http.StatusGone, http.StatusOK}[min(n-1, 1)] })
	g := startGateway(t, path, open, newSource(destination(t, "a", a.URL)))
	ahead.Store(int64(3 * time.Hour))
	g.awaitState(g.mustAccept("discarded"), "a", relay.StateDead)
	ahead.Store(0)
	if n, err := g.Discard(t.Context(), relay.Selection{Source: "vocals"}); n != 1 || err != nil {
		t.Errorf("discarded %d dead letters, error %v", n, err)
	}

	store, err := g.Store()
	if err != nil {
		t.Fatal(err)
	}
	accept := &relay.Accept{ // to no destination so far
		Window: relay.DefaultDedupeWindow, Event: &relay.Event{ID: "01JZZZZZZZZZZZZZZZZZZZZZZZ", Source: "vocals", TaskID: "replayed", ReceivedAt: time.Now().Add(3 * time.Hour), Body: []byte("{}")},
	}
	store.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{accept}})
	if accept.Err != nil {
		t.Fatal(accept.Err)
	}
	g.replayAll(relay.EventFilter{Source: "vocals", TaskID: "replayed", Destination: "a"}, 0, false, 1, 0)
	g.awaitState(accept.Event.ID, "a", relay.StateDelivered)
}
