package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestReloadUnderLoad changes settings while callbacks pour in: none is lost, none delivered twice.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	const reloads = 5
	g := newGateway(t)
	billing, library := newConsumer(t), newConsumer(t)
	site := func(version int) string {
		return fmt.Sprintf(`relay /vocals vocals {
			to billing %s {
				header X-Version %d
			}
			to library %s {
				max_in_flight %d
			}
		}`, billing.URL(), version, library.URL(), 10+version)
	}
	g.start(site(0))
	sender := g.startLoad("/vocals", "reload", 300, true)
	for version := 1; version <= reloads; version++ {
		sender.reach(t, 100)
		g.reload(site(version))
	}
	sender.reach(t, 100)
	sender.stop()
	eventually(t, patience, "everything is settled", g.settled)

	for name, c := range map[string]*consumer{"billing": billing, "library": library} {
		times := map[string]int{}
		for _, r := range c.requests() {
			times[r.event()]++
		}
		for id := range sender.answered {
			if times[id] != 1 {
				t.Errorf("%s got %s %d times", name, id, times[id])
			}
		}
	}
	requests := billing.requests()
	if last := requests[len(requests)-1].header.Get("X-Version"); last != fmt.Sprint(reloads) {
		t.Errorf("the last callback was delivered with the settings of version %s", last)
	}
	t.Logf("%d callbacks answered and %d tries not, in %d reloads", len(sender.answered), sender.failed, reloads)
}

// TestFailingReload: a configuration that cannot be loaded changes nothing, at whatever step it fails.
func TestFailingReload(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	taken := newConsumer(t) // somebody else's port
	good := `relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`
	g.start(good)
	g.accept("/vocals", callback(t, "before"))
	other := `relay /vocals vocals {
		to other http://127.0.0.1:1/
	}`
	for name, site := range map[string]string{
		"adapting":     other + "\nrelay /more more {\n\tto x http://127.0.0.1:1/ {\n\t\twhen `code ==`\n\t}\n}",
		"provisioning": other + "\ntls /no/such/cert.pem /no/such/key.pem",
		"starting":     other + "\n}\n\nhttp://" + taken.address + " {\n\tbind 127.0.0.1\n\trespond 200",
	} {
		if a := g.call(http.MethodPost, "/load", g.caddyfile(site)); a.status == http.StatusOK {
			t.Errorf("a configuration that fails at %s is loaded", name)
		}
		delivered, counted := c.count(), g.metric(`caddy_relay_callbacks_total{result="accepted",source="vocals"}`)
		g.accept("/vocals", callback(t, "after-"+name))
		c.waitFor(delivered + 1)
		if now := g.metric(`caddy_relay_callbacks_total{result="accepted",source="vocals"}`); now != counted+1 {
			t.Errorf("after a reload that fails at %s the counter goes from %v to %v", name, counted, now)
		}
		if d := g.destination("consumer"); d.State != "active" {
			t.Errorf("after a reload that fails at %s the destination shows as %+v", name, d)
		}
	}
	g.reload(good)
	g.accept("/vocals", callback(t, "at-last"))
}

// TestReloadToAnotherStore is refused while deliveries wait in the old one, unless the configuration says to abandon it.
func TestReloadToAnotherStore(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newDownConsumer(t)
	site := `relay /vocals vocals {
		to consumer ` + c.URL() + `
	}`
	g.start(site)
	g.accept("/vocals", callback(t, "waits"))
	g.options = "store sqlite " + filepath.Join(t.TempDir(), "other.db")
	if a := g.call(http.MethodPost, "/load", g.caddyfile(site)); a.status == http.StatusOK || !strings.Contains(a.body, "abandon_store") {
		t.Errorf("the reload answers %d: %s", a.status, a.body)
	}
	if all := g.events(nil); len(all) != 1 {
		t.Errorf("the old store shows %d events", len(all))
	}
	g.options += "\nabandon_store"
	g.reload(site)
	if all := g.events(nil); len(all) != 0 {
		t.Errorf("the new store shows %d events", len(all))
	}
	g.accept("/vocals", callback(t, "waits"))
}

// TestOrphans: deliveries of a destination that leaves the configuration stay, and go on when it is back.
func TestOrphans(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	stays, leaves := newConsumer(t), newDownConsumer(t)
	both := `relay /vocals vocals {
		to stays ` + stays.URL() + `
		to leaves ` + leaves.URL() + ` {
			breaker 3 100ms
			retry 100ms 100ms 100ms
		}
	}`
	one := `relay /vocals vocals {
		to stays ` + stays.URL() + `
	}`
	g.start(both)
	ids := map[string]bool{}
	for n := range 5 {
		ids[g.accept("/vocals", callback(t, fmt.Sprint("task-", n)))] = true
	}
	stays.waitFor(5)
	g.reload(one)
	g.process.waitFor(t, "orphan")
	eventually(t, patience, "the deliveries are orphaned", func() bool {
		d := g.destination("leaves")
		return d.State == "orphaned" && d.Counts["orphaned"] == 5
	})
	if n := g.metric(`caddy_relay_deliveries{destination="leaves",source="vocals",state="orphaned"}`); n != 5 {
		t.Errorf("%v deliveries count as orphaned", n)
	}

	leaves.up()
	g.reload(both)
	for _, r := range leaves.waitFor(5) {
		if !ids[r.event()] {
			t.Errorf("a delivery of %s", r.event())
		}
	}

	leaves.down()
	g.accept("/vocals", callback(t, "discarded"))
	g.reload(one)
	selection := map[string]any{"source": "vocals", "destination": "leaves", "orphaned": true}
	eventually(t, patience, "the orphan is discarded", func() bool {
		return g.do("/relay/dead-letters/discard", selection)["discarded"] == 1
	})
	if d := g.destination("leaves"); d.Counts["orphaned"] != 0 {
		t.Errorf("after the discard the destination shows as %+v", d)
	}
}
