package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

// TestOperate goes through what an operator can see and mend.
func TestOperate(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	billing, library := newConsumer(t), newConsumer(t)
	g.start(`relay /vocals vocals {
		to billing ` + billing.URL() + `
		to library ` + library.URL() + `
	}
	relay /stems stems {
		allow 127.0.0.1
		to billing ` + billing.URL() + `
	}`)
	ids := []string{}
	for n := range 9 {
		ids = append(ids, g.accept("/vocals", callback(t, fmt.Sprint("task-", n))))
	}
	stems := g.accept("/stems", fixture(t, "callback-split-stem.json"))
	eventually(t, patience, "everything is settled", g.settled)

	t.Run("status", func(t *testing.T) {
		s := g.status()
		if s.Store.Driver != "sqlite" || !s.Store.Up || len(s.Sources) != 2 || len(s.Destinations) != 3 {
			t.Errorf("the status is %+v", s)
		}
		for _, src := range s.Sources {
			if src.Open != (src.Name == "vocals") {
				t.Errorf("the source %s shows as open: %t", src.Name, src.Open)
			}
		}
		if d := g.destination("billing"); d.State != "active" || d.Counts["delivered"] != 9 {
			t.Errorf("the destination shows as %+v", d)
		}
	})

	t.Run("events", func(t *testing.T) {
		if all := g.events(nil); len(all) != 10 || all[0].ID != stems || all[9].ID != ids[0] {
			t.Errorf("%d events, not newest first", len(all))
		}
		for _, c := range []struct {
			query url.Values
			want  []string
		}{
			{url.Values{"source": {"stems"}}, []string{stems}},
			{url.Values{"task_id": {"task-3"}}, ids[3:4]},
			{url.Values{"source": {"vocals"}, "limit": {"2"}}, ids},
			{url.Values{"destination": {"library"}, "limit": {"4"}}, ids},
			{url.Values{"state": {"delivered"}, "source": {"vocals"}}, ids},
			{url.Values{"state": {"dead"}}, nil},
			{url.Values{"since": {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}}, nil},
			{url.Values{"until": {time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)}}, nil},
		} {
			var got []string
			for _, e := range g.events(c.query) {
				got = append(got, e.ID)
			}
			slices.Reverse(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("%s lists %v, not %v", c.query.Encode(), got, c.want)
			}
		}
		for _, path := range []string{"/relay/events?limit=none", "/relay/events?cursor=none", "/relay/events?since=yesterday", "/relay/events?state=lost"} {
			if a := g.call(http.MethodGet, path, nil); a.status != http.StatusBadRequest {
				t.Errorf("%s answers %d: %s", path, a.status, a.body)
			}
		}
	})

	t.Run("event", func(t *testing.T) {
		e := g.event(stems)
		if e.Source != "stems" || e.TaskID != "e649edb7abfd759285bd41a47a634b10" || e.Origin != "callback" || e.State != "delivered" ||
			e.Headers["content-type"] != "application/json" || len(e.Payload) == 0 || time.Since(e.ReceivedAt) > time.Minute {
			t.Errorf("the event shows as %+v", e)
		}
		if len(e.Deliveries) != 1 || len(e.Deliveries[0].Attempts) != 1 || e.Deliveries[0].Attempts[0].Status != http.StatusOK {
			t.Errorf("its deliveries show as %+v", e.Deliveries)
		}
		if a := g.call(http.MethodGet, "/relay/events/01HZZZZZZZZZZZZZZZZZZZZZZZ", nil); a.status != http.StatusNotFound {
			t.Errorf("an unknown event answers %d: %s", a.status, a.body)
		}
	})

	t.Run("replay", func(t *testing.T) {
		before := [...]int{billing.count(), library.count()}
		if n := g.do("/relay/events/"+ids[0]+"/replay", nil)["replayed"]; n != 2 {
			t.Errorf("%d deliveries are replayed", n)
		}
		eventually(t, patience, "everything is settled", g.settled)
		if n := g.do("/relay/events/"+ids[0]+"/replay", map[string]any{"destinations": []string{"library"}})["replayed"]; n != 1 {
			t.Errorf("%d deliveries are replayed to one destination", n)
		}
		eventually(t, patience, "everything is settled", g.settled)
		if billing.count() != before[0]+1 || library.count() != before[1]+2 {
			t.Errorf("the consumers got %d and %d requests", billing.count()-before[0], library.count()-before[1])
		}
		if all := library.requests(); all[len(all)-1].header.Get("Relay-Replay") != "2" || all[len(all)-1].event() != ids[0] {
			t.Errorf("the second replay came with %v", all[len(all)-1].header)
		}
	})

	t.Run("pause", func(t *testing.T) {
		before := [...]int{billing.count(), library.count()}
		g.do("/relay/destinations/vocals/library/pause", nil)
		id := g.accept("/vocals", callback(t, "paused"))
		billing.waitFor(before[0] + 1)
		never(t, 300*time.Millisecond, "a paused destination gets a callback", func() bool { return library.count() > before[1] })
		if d := g.destination("library"); d.State != "paused" || !d.Paused || d.Counts["paused"] != 1 {
			t.Errorf("the destination shows as %+v", d)
		}
		g.do("/relay/destinations/vocals/library/resume", nil)
		if got := library.waitFor(before[1] + 1); got[len(got)-1].event() != id {
			t.Errorf("another event came: %s", got[len(got)-1].event())
		}
		if a := g.call(http.MethodPost, "/relay/destinations/vocals/nobody/pause", nil); a.status != http.StatusNotFound {
			t.Errorf("an unknown destination answers %d: %s", a.status, a.body)
		}
	})
}
