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
// that have left the config, too.
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
		check := func(g *gateway, earlierThan func(i int) []string) {
			t.Helper()
			for i, id := range ids {
				after, earlier := g.backlog("", id)
				if !slices.Equal(after, ids[i+1:]) {
					t.Errorf("after %d: got %q, want %q", i, after, ids[i+1:])
				}
				// On a busy machine the first ones came so long before that they cannot have been missed.
				want := earlierThan(i)
				if n := len(want) - len(earlier); n < 0 || !slices.Equal(earlier, want[n:]) {
					t.Errorf("before %d: got %q, want the last of %q", i, earlier, want)
				}
			}
			if after, earlier := g.backlog("music", ids[2]); !slices.Equal(after, []string{ids[3], ids[4], ids[6]}) || len(earlier) > 0 {
				t.Errorf("of one source: %q, %q", after, earlier)
			}
		}
		none := func(int) []string { return nil }
		check(g, none)
		g.Push(g.settings())
		check(g, none)
		store, err := g.Store()
		if err != nil {
			t.Fatal(err)
		}
		if !store.PerSource() {
			return
		}
		// Another process does not know in which order they were published.
		check(start(d), func(i int) []string {
			return slices.DeleteFunc(slices.Clone(ids[:i]), func(other string) bool { return source[other] == source[ids[i]] })
		})
		// This one does: here the step that stored an event was slow to say so.
		rec, err := g.Event(t.Context(), ids[0])
		if err != nil {
			t.Fatal(err)
		}
		g.Accepted(&rec.Event)
		check(g, func(i int) []string { return ids[:min(i, 1)] })
		if _, earlier := g.backlog("", ids[6]); !slices.Equal(earlier, ids[:1]) {
			t.Errorf("of an event that was published late: got %q", earlier)
		}
	})
}
