package engine_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
)

// acceptAs sends a callback to a source and returns its event's id.
func (g *gateway) acceptAs(src *relay.Source, task string) string {
	g.t.Helper()
	w := httptest.NewRecorder()
	g.Receive(w, callback(task), src, netip.MustParseAddr("203.0.113.7"))
	id := w.Header().Get("Relay-Event-Id")
	if w.Code != http.StatusOK || id == "" {
		g.t.Fatalf("callback of %s was answered %d %s", task, w.Code, w.Body)
	}
	return id
}

// backlog returns the events with which a stream begins: those that came after one, and those that may have been missed.
func (g *gateway) backlog(source, since string) (after, earlier []string) {
	g.t.Helper()
	err := g.Stream(g.t.Context(), source, since, func(items []*stream.Entry) error {
		if len(items) == 0 {
			return errHungUp
		}
		for _, i := range items {
			switch {
			case i.Kind != stream.Accepted:
			case i.Earlier:
				earlier = append(earlier, i.EventID)
			default:
				after = append(after, i.EventID)
			}
		}
		return nil
	})
	if !errors.Is(err, errHungUp) {
		g.t.Fatal(err)
	}
	return after, earlier
}

// An event is a place in the list of all sources: wherever a client is cut, it goes on with what was stored later, of sources
// that have left the config, too. Where sources have sequences of their own, what another one has stored shortly before
// comes once more, and does not set the client back, if this process does not know better.
func TestBacklogOfSeveralSources(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, start func(...*relay.Destination) *gateway) {
		c := newConsumer(t, nil)
		d := destination(t, "a", c.URL)
		g := start(d)
		music := newSource(d)
		music.Name = "music"
		settings := g.settings()
		settings.Sources["music"] = music
		g.Push(settings)
		var ids []string
		source := map[string]*relay.Source{}
		for i, src := range []*relay.Source{g.source, g.source, g.source, music, music, g.source, music} {
			id := g.acceptAs(src, "task-"+string(rune('a'+i)))
			g.awaitState(id, "a", relay.StateDelivered)
			ids, source[id] = append(ids, id), src
		}
		store, err := g.Store()
		if err != nil {
			t.Fatal(err)
		}
		check := func(t *testing.T) {
			for i, id := range ids {
				after, earlier := g.backlog("", id)
				if !slices.Equal(after, ids[i+1:]) {
					t.Errorf("after %d: got %q, want %q", i, after, ids[i+1:])
				}
				others := slices.DeleteFunc(slices.Clone(ids[:i]), func(other string) bool { return source[other] == source[id] })
				if !store.PerSource() {
					others = nil
				}
				// On a busy machine the first ones came so long before that they cannot have been missed.
				if n := len(others) - len(earlier); n < 0 || !slices.Equal(earlier, others[n:]) {
					t.Errorf("before %d: got %q, want the last of %q", i, earlier, others)
				}
			}
			if after, earlier := g.backlog("music", ids[2]); !slices.Equal(after, []string{ids[3], ids[4], ids[6]}) || len(earlier) > 0 {
				t.Errorf("of one source: %q, %q", after, earlier)
			}
		}
		t.Run("configured", check)
		g.Push(g.settings())
		t.Run("left the config", check)
		// This process knows what it has published since the first client came, and in which order.
		m, v := g.acceptAs(music, "task-m"), g.acceptAs(g.source, "task-v")
		if after, earlier := g.backlog("", v); len(after)+len(earlier) > 0 {
			t.Errorf("after the newest: got %q, %q", after, earlier)
		}
		rec, err := g.Event(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		g.Accepted(&rec.Event) // as if the step that stored it had been slow to say so
		if after, earlier := g.backlog("", v); len(after) > 0 || store.PerSource() && !slices.Equal(earlier, []string{m}) {
			t.Errorf("of an event that was published late: got %q, %q", after, earlier)
		}
		ids = append(ids, m, v)
		if after, _ := g.backlog("", ids[0]); !slices.Equal(after, ids[1:]) {
			t.Errorf("later: got %q, want %q", after, ids[1:])
		}
	})
}
