package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const docs = "../../docs/"

// TestMonitoring: the alert rules and the Grafana dashboard are valid, and use only metrics that a gateway shows.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", docs+"alerts.yml")
	promtool(t, "test", "rules", docs+"testdata/alerts_test.yml")
	expressions := dashboardExpressions(t)
	promtool(t, "check", "rules", asRules(t, expressions))

	g := newGateway(t)
	consumer := newConsumer(t)
	g.start("relay /vocals vocals {\n recover\n to billing " + consumer.URL() + "\n archive file " + t.TempDir() + " {\n hosts 127.0.0.1\n }\n}")
	g.accept("/vocals", callback(t, "a"))
	eventually(t, patience, "everything is settled", g.settled)
	shown := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^caddy_relay_\w+`).FindAllString(g.metrics(), -1) {
		shown[line] = true
	}
	rules, err := os.ReadFile(docs + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, name := range regexp.MustCompile(`caddy_relay_\w+`).FindAllString(string(rules)+strings.Join(expressions, "\n"), -1) {
		used[name] = true
		if !shown[name] {
			t.Errorf("no gateway shows %s", name)
		}
	}
	for name := range shown {
		family := strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
		if !used[name] && !used[family+"_bucket"] {
			t.Errorf("neither the dashboard nor an alert uses %s", name)
		}
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s (from Debian's package prometheus): %v\n%s", strings.Join(args, " "), err, out)
	}
}

// dashboardExpressions returns all queries of the Grafana dashboard, with values in place of its variables.
func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Templating struct {
			List []struct{ Definition string }
		}
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile(docs + "grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var expressions []string
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q has the id of another, or no query", p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	labels := regexp.MustCompile(`^label_values\((.+), \w+\)$`)
	for _, v := range dashboard.Templating.List {
		if m := labels.FindStringSubmatch(v.Definition); m != nil {
			expressions = append(expressions, m[1])
		}
	}
	variables := strings.NewReplacer("$source", ".*", "$destination", ".*", "$__rate_interval", "5m")
	for i := range expressions {
		if expressions[i] = variables.Replace(expressions[i]); strings.Contains(expressions[i], "$") {
			t.Errorf("%s has an unknown variable", expressions[i])
		}
	}
	return expressions
}

// asRules writes expressions to a file as recording rules, which promtool parses.
func asRules(t *testing.T, expressions []string) string {
	t.Helper()
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for i, e := range expressions {
		rules = append(rules, rule{"dashboard:" + strconv.Itoa(i), e})
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
