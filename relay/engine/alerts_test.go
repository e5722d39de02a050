package engine_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/alert"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/provider"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// alerting pushes the gateway's settings with alerts to the destinations.
func (g *gateway) alerting(alerts relay.Alerts, destinations ...*relay.Destination) {
	g.t.Helper()
	if alerts.Conditions == nil {
		alerts.Conditions = relay.Conditions
	}
	if alerts.Every == 0 {
		alerts.Every = relay.DefaultAlertEvery
	}
	p, err := provider.Custom(provider.Paths{TaskID: []string{"task_id"}})
	if err != nil {
		g.t.Fatal(err)
	}
	for _, d := range destinations {
		d.MaxInFlight = 1 // so that alerts arrive in the order of their acceptance
	}
	s := g.settings()
	s.Alerts = &alerts
	s.Sources[relay.AlertSource] = &relay.Source{
		Name: relay.AlertSource, Provider: p, Dedupe: relay.DefaultDedupe, DedupeWindow: alerts.Every,
		MaxBody: relay.DefaultMaxBody, AckWithin: relay.DefaultAckWithin,
		Destinations: destinations, Logger: slog.New(slog.DiscardHandler),
	}
	g.Push(s)
}

// wantAlert waits for an alert and checks what it is about.
func (c *consumer) wantAlert(t *testing.T, want alert.Subject, state alert.State) alert.Alert {
	t.Helper()
	r := c.next(t)
	var a alert.Alert
	if err := json.Unmarshal([]byte(r.body), &a); err != nil {
		t.Fatal(err)
	}
	if a.Subject != want || a.State != state || a.Reason == "" || a.Since.IsZero() || a.Node == "" {
		t.Fatalf("the alert is %s, expected one that %s is %s", r.body, want.Task(), state)
	}
	if got := r.header.Get("Relay-Task-Id"); got != want.Task() || r.header.Get("Relay-Source") != relay.AlertSource {
		t.Errorf("it came with %v", r.header)
	}
	return a
}

func gone(int, *http.Request) int { return http.StatusGone }

func TestADeadLetterAlerts(t *testing.T) {
	t.Parallel()
	alerts, slack := newConsumer(t, nil), newConsumer(t, nil)
	toSlack := destination(t, "slack", slack.URL)
	toSlack.Rewrite = alert.Slack
	g := newGateway(t, destination(t, "billing", newConsumer(t, gone).URL))
	g.alerting(relay.Alerts{Dashboard: func() string { return "https://relay.example.com/" }}, destination(t, "ops", alerts.URL), toSlack)
	id := g.mustAccept("one")

	about := alert.Subject{Condition: relay.ConditionDeadLetter, Source: "vocals", Destination: "billing"}
	a := alerts.wantAlert(t, about, alert.Firing)
	if a.EventID != id || a.TaskID != "one" || a.Count != 1 || !strings.Contains(a.Reason, "410") {
		t.Errorf("the alert is %+v", a)
	}
	if a.Link != "https://relay.example.com/#/dead-letters?destination=billing&source=vocals" {
		t.Errorf("it links to %s", a.Link)
	}
	if body := slack.next(t).body; !strings.HasPrefix(body, `{"text":"[firing] dead_letter, destination billing of source vocals: dead letters: 1`) {
		t.Errorf("Slack gets %s", body)
	}
	if n, err := g.Discard(t.Context(), relay.Selection{Source: "vocals"}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	alerts.wantAlert(t, about, alert.Resolved)
}

// An alert that is given up alerts nobody, or it would never end.
func TestAlertsDoNotAlert(t *testing.T) {
	t.Parallel()
	g := newGateway(t, destination(t, "billing", newConsumer(t, gone).URL))
	refuses := newConsumer(t, gone)
	g.source.Verifiers = []relay.Verifier{refusing{body: false}}
	g.alerting(relay.Alerts{}, destination(t, "ops", refuses.URL))
	unverified := alert.Subject{Condition: relay.ConditionUnverified, Source: "vocals"}
	for range 5 {
		if w := g.send(callback("one")); w.Code != http.StatusUnauthorized {
			t.Fatalf("answered %d", w.Code)
		}
	}
	refuses.wantAlert(t, unverified, alert.Firing)
	g.await("the alert is given up", func() bool {
		letters, _, err := g.DeadLetters(t.Context(), relay.Selection{Source: relay.AlertSource}, 10, "")
		return err == nil && len(letters) == 1
	})
	g.source.Verifiers = nil
	g.mustAccept("two")
	refuses.wantAlert(t, unverified, alert.Resolved)
	refuses.wantAlert(t, alert.Subject{Condition: relay.ConditionDeadLetter, Source: "vocals", Destination: "billing"}, alert.Firing)
	if n := refuses.count(); n != 3 {
		t.Errorf("%d alerts were sent", n)
	}
}

func TestASilentSourceAlerts(t *testing.T) {
	t.Parallel()
	g := newGateway(t, destination(t, "billing", newConsumer(t, nil).URL))
	alerts := newConsumer(t, nil)
	settings := relay.Alerts{SilentAfter: 2 * time.Second, Conditions: []relay.Condition{relay.ConditionSilent}}
	g.mustAccept("one")
	g.alerting(settings, destination(t, "ops", alerts.URL))
	about := alert.Subject{Condition: relay.ConditionSilent, Source: "vocals"}
	alerts.wantAlert(t, about, alert.Firing)
	g.mustAccept("two")
	alerts.wantAlert(t, about, alert.Resolved)
}

func TestOverdueTasksAlert(t *testing.T) {
	t.Parallel()
	var d *details
	src := newRecoveringSource(t, &d, 10*time.Millisecond, newConsumer(t, nil))
	src.Recover.For = 6 * time.Second
	g := startGateway(t, "", openSQLite(filepath.Join(t.TempDir(), "relay.db")), src)
	alerts := newConsumer(t, nil)
	g.alerting(relay.Alerts{Every: 3 * time.Second, Conditions: []relay.Condition{relay.ConditionOverdue}}, destination(t, "ops", alerts.URL))
	about := alert.Subject{Condition: relay.ConditionOverdue, Source: "vocals"}
	g.mustExpect("one")
	if a := alerts.wantAlert(t, about, alert.Firing); !strings.Contains(a.Reason, "without a callback in time: 1") {
		t.Errorf("the alert is %+v", a)
	}
	g.awaitTask("one", relay.TaskGivenUp)
	for { // until nothing was given up for a while
		var a alert.Alert
		if err := json.Unmarshal([]byte(alerts.next(t).body), &a); err != nil {
			t.Fatal(err)
		}
		if a.State == alert.Resolved {
			return
		}
		if !strings.Contains(a.Reason, "given up without a result: 1") {
			t.Fatalf("the alert is %+v", a)
		}
	}
}

// A gateway that starts again knows from its store when a source was called, and resolves what it had left open.
func TestAlertsAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "relay.db")
	alerts := newConsumer(t, nil)
	broken := destination(t, "billing", newConsumer(t, func(int, *http.Request) int { return http.StatusBadGateway }).URL)
	broken.Retry, broken.Breaker = retries(time.Hour), relay.BreakerPolicy{Failures: 1, Probe: time.Hour}
	g := startGateway(t, path, openSQLite(path), newSource(broken))
	g.alerting(relay.Alerts{}, destination(t, "ops", alerts.URL))
	id := g.mustAccept("one")
	held := alert.Subject{Condition: relay.ConditionBreakerOpen, Source: "vocals", Destination: "billing"}
	if a := alerts.wantAlert(t, held, alert.Firing); a.EventID != id || a.TaskID != "one" || !strings.Contains(a.Reason, "502") {
		t.Errorf("the alert is %+v", a)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}

	g = startGateway(t, path, openSQLite(path), newSource(destination(t, "billing", newConsumer(t, nil).URL)))
	g.alerting(relay.Alerts{Every: 3 * time.Second, SilentAfter: time.Millisecond}, destination(t, "ops", alerts.URL))
	alerts.wantAlert(t, alert.Subject{Condition: relay.ConditionSilent, Source: "vocals"}, alert.Firing)
	for {
		var a alert.Alert
		if err := json.Unmarshal([]byte(alerts.next(t).body), &a); err != nil {
			t.Fatal(err)
		}
		if a.Subject == held && a.State == alert.Resolved {
			if a.EventID != "" || a.TaskID != "" || a.Count != 0 {
				t.Errorf("it is over, and the alert names an example: %+v", a)
			}
			return
		}
		if a.Condition != relay.ConditionSilent { // which is repeated meanwhile
			t.Fatalf("the alert is %+v", a)
		}
	}
}

// An alert that comes while callbacks go to the spool goes there, too.
func TestASpoolInUseAlerts(t *testing.T) {
	t.Parallel()
	alerts := newConsumer(t, nil)
	var down atomic.Bool
	down.Store(true)
	g := newSpoolingGateway(t, newSource(destination(t, "billing", newConsumer(t, nil).URL)), func(*relay.Event) error {
		if down.Load() {
			return relay.ErrUnavailable
		}
		return nil
	}, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	g.alerting(relay.Alerts{Conditions: []relay.Condition{relay.ConditionSpool}}, destination(t, "ops", alerts.URL))
	g.mustAccept("one")
	g.await("the alert is in the spool", func() bool { return g.Spooled() == 2 })
	down.Store(false)
	about := alert.Subject{Condition: relay.ConditionSpool}
	alerts.wantAlert(t, about, alert.Firing)
	alerts.wantAlert(t, about, alert.Resolved)
}

// Of two gateways that see the same, one sends each alert.
func TestOneAlertOfTwoGateways(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	alerts := newConsumer(t, nil)
	failing := newConsumer(t, gone)
	var gateways []*gateway
	for range 2 {
		g := newRedisGateway(t, redis, newSource(destination(t, "billing", failing.URL)))
		g.alerting(relay.Alerts{}, destination(t, "ops", alerts.URL))
		gateways = append(gateways, g)
	}
	for n := range 10 {
		gateways[n%2].mustAccept(fmt.Sprintf("task-%d", n))
	}
	about := alert.Subject{Condition: relay.ConditionDeadLetter, Source: "vocals", Destination: "billing"}
	alerts.wantAlert(t, about, alert.Firing)
	newest := func() relay.EventRecord {
		events, _, err := gateways[0].Events(t.Context(), relay.EventFilter{Source: relay.AlertSource, TaskID: about.Task(), Limit: 10})
		if err != nil || len(events) == 0 {
			t.Fatalf("%d alerts are stored: %v", len(events), err)
		}
		return events[0]
	}
	gateways[0].await("the other gateway has seen it", func() bool { return newest().Duplicates > 0 })
	if _, err := gateways[1].Discard(t.Context(), relay.Selection{Source: "vocals"}); err != nil {
		t.Fatal(err)
	}
	alerts.wantAlert(t, about, alert.Resolved)
	// A condition that both see next comes after whatever the other one may have to say about the first.
	for range 5 {
		for _, g := range gateways {
			g.source.Verifiers = []relay.Verifier{refusing{body: false}}
			g.send(callback("forged"))
		}
	}
	unverified := alert.Subject{Condition: relay.ConditionUnverified, Source: "vocals"}
	alerts.wantAlert(t, unverified, alert.Firing)
	gateways[0].await("the other gateway has seen that", func() bool {
		events, _, err := gateways[0].Events(t.Context(), relay.EventFilter{Source: relay.AlertSource, TaskID: unverified.Task(), Limit: 10})
		return err == nil && len(events) == 1 && events[0].Duplicates > 0
	})
	if n := alerts.count(); n != 3 {
		t.Errorf("%d alerts were sent", n)
	}
}
