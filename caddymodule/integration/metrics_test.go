package integration

import (
	"bufio"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// metric returns the value of a series; -1 if there is none.
func (g *gateway) metric(series string) float64 {
	g.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(g.metrics()))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return n
		}
	}
	return -1
}

func (g *gateway) metrics() string {
	g.t.Helper()
	a := g.call(http.MethodGet, "/metrics", nil)
	if a.status != http.StatusOK {
		g.t.Fatalf("/metrics answers %d: %s", a.status, a.body)
	}
	return a.body
}

// TestMetrics: counters go on across reloads, and series of what left the configuration go.
func TestMetrics(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	good, bad := newConsumer(t), newConsumer(t)
	bad.answers(http.StatusGone)
	to := "to good " + good.URL()
	g.start(`relay /vocals vocals {
		` + to + `
		to bad ` + bad.URL() + `
	}`)
	body := callback(t, "a")
	g.accept("/vocals", body)
	g.post("/vocals", body)
	g.post("/vocals", "{}")
	eventually(t, patience, "everything is settled", g.settled)
	check := func(series string, want float64) {
		t.Helper()
		if n := g.metric(series); n != want {
			t.Errorf("%s is %v, not %v", series, n, want)
		}
	}
	checkAll := func() {
		t.Helper()
		check(`caddy_relay_callbacks_total{result="accepted",source="vocals"}`, 1)
		check(`caddy_relay_callbacks_total{result="duplicate",source="vocals"}`, 1)
		check(`caddy_relay_callbacks_total{result="invalid",source="vocals"}`, 1)
		check(`caddy_relay_ack_duration_seconds_count{source="vocals"}`, 3)
		check(`caddy_relay_attempts_total{destination="good",result="delivered",source="vocals"}`, 1)
		check(`caddy_relay_attempt_duration_seconds_count{destination="good",source="vocals"}`, 1)
		check(`caddy_relay_delivery_latency_seconds_count{destination="good",source="vocals"}`, 1)
		check(`caddy_relay_deliveries{destination="good",source="vocals",state="pending"}`, 0)
		check(`caddy_relay_breaker_open{destination="good",source="vocals"}`, 0)
		check(`caddy_relay_destination_paused{destination="good",source="vocals"}`, 0)
		check(`caddy_relay_store_up`, 1)
	}
	checkAll()
	check(`caddy_relay_attempts_total{destination="bad",result="dead",source="vocals"}`, 1)
	check(`caddy_relay_deliveries{destination="bad",source="vocals",state="dead"}`, 1)
	if g.metric(`caddy_relay_store_free_bytes`) <= 0 || g.metric(`caddy_relay_last_callback_timestamp_seconds{source="vocals"}`) <= 0 {
		t.Error("the store's free space or the time of the last callback is missing")
	}
	g.lint()

	g.reload(`relay /vocals vocals {
		` + to + ` {
			timeout 5s
		}
	}`)
	checkAll()
	check(`caddy_relay_attempts_total{destination="bad",result="dead",source="vocals"}`, -1)
	g.do("/relay/destinations/vocals/good/pause", nil)
	check(`caddy_relay_destination_paused{destination="good",source="vocals"}`, 1)
	g.lint()
}

// lint checks the relay's own metrics by Prometheus' rules.
func (g *gateway) lint() {
	g.t.Helper()
	var own strings.Builder
	for line := range strings.Lines(g.metrics()) {
		if strings.Contains(line, "caddy_relay_") {
			own.WriteString(line)
		}
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(own.String())
	if out, err := check.CombinedOutput(); err != nil {
		g.t.Errorf("promtool check metrics (from Debian's package prometheus): %v\n%s", err, out)
	}
}
