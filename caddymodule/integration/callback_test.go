package integration

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestSampleCallback follows the provider's own example from its sender to both consumers.
func TestSampleCallback(t *testing.T) {
	g := newGateway(t)
	consumers := []*consumer{newConsumer(t), newConsumer(t)}
	g.start(`relay /callbacks/vocals vocals {
		to billing ` + consumers[0].URL() + `
		to library ` + consumers[1].URL() + `
	}`)
	body := fixture(t, "callback-separate-vocal.json")

	first := g.post("/callbacks/vocals", body)
	answered := time.Now()
	if first.status != http.StatusOK || first.body != `{"status":"received"}` || first.eventID() == "" || first.header.Get("Relay-Duplicate") != "" {
		t.Fatalf("the first answer is %+v", first)
	}
	for _, c := range consumers {
		got := c.waitFor(1)[0]
		if late := got.arrived.Sub(answered); late > 100*time.Millisecond {
			t.Errorf("the callback arrived %s after its answer", late)
		}
		if got.body != body {
			t.Errorf("the body arrived as %q", got.body)
		}
		for name, want := range map[string]string{
			"Content-Type":  "application/json",
			"Webhook-Id":    first.eventID(),
			"Relay-Source":  "vocals",
			"Relay-Task-Id": sampleTask,
			"Relay-Attempt": "1",
			"Relay-Replay":  "",
		} {
			if is := got.header.Get(name); is != want {
				t.Errorf("%s is %q, not %q", name, is, want)
			}
		}
		for _, name := range []string{"Webhook-Timestamp", "Traceparent", "User-Agent"} {
			if got.header.Get(name) == "" {
				t.Errorf("%s is missing", name)
			}
		}
	}

	second := g.post("/callbacks/vocals", body)
	if second.status != first.status || second.body != first.body || second.eventID() != first.eventID() || second.header.Get("Relay-Duplicate") != "true" {
		t.Fatalf("the duplicate's answer is %+v", second)
	}
	eventually(t, patience, "everything is settled", g.settled)
	for _, c := range consumers {
		if n := c.count(); n != 1 {
			t.Errorf("a consumer got %d requests", n)
		}
	}
	if e := g.event(first.eventID()); e.State != "delivered" || e.Duplicates != 1 {
		t.Errorf("the event shows as %+v", e)
	}
}

// TestMusic: the three callbacks of one music task are three events, unless the source says otherwise.
func TestMusic(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	each, one := newConsumer(t), newConsumer(t)
	g.start(`relay /each each {
		to consumer ` + each.URL() + `
	}
	relay /one one {
		dedupe task_id
		to consumer ` + one.URL() + `
	}`)
	ids := map[string]map[string]bool{"/each": {}, "/one": {}}
	for _, stage := range []string{"text", "first", "complete"} {
		for path := range ids {
			ids[path][g.post(path, fixture(t, "callback-music-"+stage+".json")).eventID()] = true
		}
	}
	if len(ids["/each"]) != 3 || len(ids["/one"]) != 1 {
		t.Errorf("the events are %v", ids)
	}
	eventually(t, patience, "everything is settled", g.settled)
	if each.count() != 3 || one.count() != 1 {
		t.Errorf("%d deliveries by stage and %d by task", each.count(), one.count())
	}
	// With another stage under the same key the body differs: it is kept beside the first one.
	id := slices.Collect(maps.Keys(ids["/one"]))[0]
	if e := g.event(id); e.Stage != "text" || len(e.Variants) != 2 {
		t.Errorf("the event of one task shows as %+v", e)
	}
	if n := g.do("/relay/events/"+id+"/replay", map[string]any{"variant": 2})["replayed"]; n != 1 {
		t.Errorf("%d deliveries are replayed", n)
	}
	if got := one.waitFor(2)[1]; got.body != fixture(t, "callback-music-complete.json") || got.event() != id {
		t.Errorf("a replay of the second variant delivers %s", got.body)
	}
}

// TestSimultaneous: of callbacks that arrive together with the same key one makes the event.
func TestSimultaneous(t *testing.T) {
	t.Parallel()
	const senders = 32
	g := newGateway(t)
	c := newConsumer(t)
	g.start(`relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`)
	body := callback(t, "same")
	answers := make(chan answer, senders)
	for range senders {
		go func() {
			a, err := g.try("/vocals", body)
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	ids, first := map[string]bool{}, 0
	for range senders {
		a := <-answers
		ids[a.eventID()] = true
		if a.header.Get("Relay-Duplicate") == "" {
			first++
		}
	}
	if len(ids) != 1 || first != 1 {
		t.Errorf("%d events, and %d answers that are no duplicate's", len(ids), first)
	}
	eventually(t, patience, "everything is settled", g.settled)
	if c.count() != 1 {
		t.Errorf("%d deliveries", c.count())
	}
}
