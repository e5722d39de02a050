package integration

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestAlerts: a dead letter and its end are told, signed, to one consumer as JSON and to another as Slack has it, once each
// and with a link to the dashboard; alerts are listed as events like any other.
func TestAlerts(t *testing.T) {
	t.Parallel()
	const key = "a key of twenty-four byte"
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(key))
	ops, slack, billing := newConsumer(t), newConsumer(t), newConsumer(t)
	billing.answers(http.StatusGone)
	g := newGateway(t, `alerts {
			to ops `+ops.URL()+` {
				sign `+secret+`
			}
			to slack `+slack.URL()+` {
				format slack
				sign `+secret+`
			}
		}`)
	g.start(`handle_path /dashboard/* {
			relay_dashboard
		}
		relay /vocals vocals {
			to billing ` + billing.URL() + `
		}
		respond 404`)
	if a := g.send(http.MethodGet, "/dashboard/", ""); a.status != http.StatusOK {
		t.Fatalf("the dashboard answers %+v", a)
	}
	g.accept("/vocals", callback(t, "one"))
	g.accept("/vocals", callback(t, "two"))

	type told struct {
		Alert, State, Source, Destination, Reason, Node, Link string
		EventID                                               string `json:"event_id"`
	}
	alert := func(n int) (a told) {
		t.Helper()
		r := ops.waitFor(n)[n-1]
		r.wantSigned(t, key)
		if err := json.Unmarshal([]byte(r.body), &a); err != nil {
			t.Fatal(err)
		}
		if a.Alert != "dead_letter" || a.Source != "vocals" || a.Destination != "billing" || a.Node == "" ||
			a.Link != "https://localhost/dashboard/#/dead-letters?destination=billing&source=vocals" {
			t.Errorf("alert %d is %s", n, r.body)
		}
		return a
	}
	if a := alert(1); a.State != "firing" || a.EventID == "" || !strings.Contains(a.Reason, "410") {
		t.Errorf("the alert is %+v", a)
	}
	text := slack.waitFor(1)[0]
	text.wantSigned(t, key)
	if !strings.HasPrefix(text.body, `{"text":"[firing] dead_letter, destination billing of source vocals: `) || text.event() != ops.requests()[0].event() {
		t.Errorf("Slack gets %s", text.body)
	}
	eventually(t, patience, "both are dead letters", func() bool { return len(g.deadLetters(nil)) == 2 })
	if n := g.do("/relay/dead-letters/discard", map[string]any{"all": true})["discarded"]; n != 2 {
		t.Errorf("%d dead letters were discarded", n)
	}
	if a := alert(2); a.State != "resolved" {
		t.Errorf("then comes %+v", a)
	}
	slack.waitFor(2)
	events := g.events(url.Values{"source": {"relay"}})
	if len(events) != 2 || ops.count() != 2 || slack.count() != 2 {
		t.Errorf("%d alerts are stored, %d and %d were sent", len(events), ops.count(), slack.count())
	}
	if a := g.call(http.MethodGet, "/relay/events/"+events[0].ID, nil); !strings.Contains(a.body, `"headers":{}`) {
		t.Errorf("an alert is shown as %s", a.body)
	}
	if out := g.mustRelay("events --source relay"); !strings.Contains(out, "dead_letter:vocals:billing") {
		t.Errorf("the events are listed as\n%s", out)
	}
	g.mustRelay("send relay")
	if got := slack.waitFor(3)[2]; !strings.HasPrefix(got.body, `{"text":"`) || !strings.Contains(got.body, "sample-") {
		t.Errorf("a sample arrives as %s", got.body)
	}
}
