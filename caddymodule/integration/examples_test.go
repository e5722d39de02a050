package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const examples = "../../docs/examples/"

// exampleSecrets holds the environment variables that the examples read.
var exampleSecrets = map[string]string{
	"CALLBACK_TOKEN":          "c4llback-t0ken",
	"PROVIDER_KEY":            "pr0vider-key",
	"VERIFY_TOKEN":            "v3rify-t0ken",
	"APP_SECRET":              "app-s3cret",
	"REDIS_PASSWORD":          "redis-s3cret",
	"BILLING_SECRET":          "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	"DASHBOARD_PASSWORD_HASH": "$2a$14$roM2V9/6SxKl6s7ZjUFdKeNOHvGU5UoXB0I3HaDV/SdL7FT7qc4.y",
	"OPERATORS_CA":            "testdata/operators-ca.pem",
	"LIBRARY_SECRET":          "whsec_bm90IGEgc2VjcmV0LCBhIHRlc3Qga2V5",
}

func init() {
	for name, value := range exampleSecrets {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
}

// example returns an example as this gateway can run it: on its own ports, for localhost. What else is to be replaced are
// pairs of old and new.
func (g *gateway) example(name string, replace ...string) string {
	g.t.Helper()
	_, port, _ := net.SplitHostPort(g.address)
	text := strings.Replace(read(g.t, examples+name), "http://hooks.example.com {", "hooks.example.com {", 1)
	for old, now := range pairs(append([]string{
		"\n{\n", "\n{\n\tadmin " + g.admin + "\n\thttps_port " + port + "\n\tauto_https disable_redirects\n\tskip_install_trust\n\tmetrics\n\t" + noCleaning + "\n",
		"hooks.example.com {", "localhost {\n\tbind 127.0.0.1",
	}, replace...)) {
		if !strings.Contains(text, old) {
			g.t.Fatalf("%s has no %q", name, old)
		}
		text = strings.ReplaceAll(text, old, now)
	}
	return text
}

func pairs(list []string) func(yield func(string, string) bool) {
	return func(yield func(string, string) bool) {
		for pair := range slices.Chunk(list, 2) {
			if !yield(pair[0], pair[1]) {
				return
			}
		}
	}
}

// send posts a callback with headers, which are pairs of name and value.
func (g *gateway) send(method, path, body string, headers ...string) answer {
	g.t.Helper()
	req, err := http.NewRequest(method, "https://localhost"+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range pairs(headers) {
		req.Header.Set(name, value)
	}
	a, err := send(g.client, req)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

// TestExamples: every example is formatted and valid, and warns of nothing but what it is about.
func TestExamples(t *testing.T) {
	t.Parallel()
	expected := map[string]string{
		"behind-a-proxy.caddyfile": "server is listening only on the HTTP port",
		"hidden-tokens.caddyfile":  "hide it with this line in format filter: request>headers>X-Callback-Token delete",
		"dashboard.caddyfile":      "enabling strict SNI-Host enforcement because TLS client auth is configured",
	}
	files, err := filepath.Glob(examples + "*.caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range append(files, examples+"production.json") {
		out, err := caddy(t.TempDir(), "validate", "--config", file).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
		for line := range strings.Lines(string(out)) {
			want := expected[filepath.Base(file)]
			if strings.Contains(line, `"level":"warn"`) && (want == "" || !strings.Contains(line, want)) {
				t.Errorf("%s: %s", file, line)
			}
		}
	}
}

// TestExampleJSON: the JSON example says the same as the Caddyfile.
func TestExampleJSON(t *testing.T) {
	t.Parallel()
	var adapted, written any
	for text, into := range map[string]*any{
		output(t, caddy(t.TempDir(), "adapt", "--config", examples+"production.caddyfile")): &adapted,
		read(t, examples+"production.json"):                                                 &written,
	} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(adapted, written) {
		t.Errorf("production.json is not what `caddy adapt --config production.caddyfile --pretty` prints")
	}
}

// TestExampleProduction follows a callback through the example of a single gateway.
func TestExampleProduction(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	billing, library := newConsumer(t), newConsumer(t)
	g.startFile(g.example("production.caddyfile", "\n\tmetrics\n\n", "\n\n",
		"https://billing.example.com/hooks/vocals", billing.URL(), "https://library.example.com/hooks/vocals", library.URL()))
	path := "/callbacks/vocals?token=" + exampleSecrets["CALLBACK_TOKEN"]
	id := g.accept(path, fixture(t, "callback-separate-vocal.json"))
	for _, c := range []*consumer{billing, library} {
		if got := c.waitFor(1)[0]; got.event() != id || got.header.Get("Webhook-Signature") == "" {
			t.Errorf("a consumer got %+v", got)
		}
	}
	failed := g.accept(path, fixture(t, "callback-failure-451.json"))
	if got := billing.waitFor(2)[1]; got.event() != failed {
		t.Errorf("billing got %+v", got)
	}
	if names := destinations(g.event(failed)); !slices.Equal(names, []string{"billing"}) {
		t.Errorf("a failure goes to %v", names)
	}
	checkRefusal(t, "no token", g.post("/callbacks/vocals", callback(t, "a")), http.StatusUnauthorized)
	if a := g.post("/callbacks/vocal", callback(t, "a")); a.status != http.StatusNotFound {
		t.Errorf("a mistyped URL gets %d", a.status)
	}
	g.secretsUnseen()
}

func destinations(e event) (names []string) {
	for _, d := range e.Deliveries {
		names = append(names, d.Destination)
	}
	slices.Sort(names)
	return names
}

// secretsUnseen checks that the gateway has an access log, and no secret in it.
func (g *gateway) secretsUnseen() {
	g.t.Helper()
	g.process.waitFor(g.t, "http.log.access")
	for name, secret := range exampleSecrets {
		if lines := g.process.Logged(secret); len(lines) > 0 {
			g.t.Errorf("the log shows %s: %s", name, lines[0])
		}
	}
}

// TestExampleProxy: `allow` goes by the address that the proxy saw, whatever the sender claims.
func TestExampleProxy(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	g.startFile(g.example("behind-a-proxy.caddyfile", "10.0.0.0/8", "127.0.0.0/8", "https://billing.example.com/hooks/vocals", c.URL()))
	for forwarded, status := range map[string]int{
		"203.0.113.9":               http.StatusOK,
		"198.51.100.1, 203.0.113.9": http.StatusOK,
		"198.51.100.1":              http.StatusForbidden,
		"203.0.113.9, 198.51.100.1": http.StatusForbidden,
		"":                          http.StatusForbidden,
	} {
		if a := g.send(http.MethodPost, "/callbacks/vocals", callback(t, "a"), "X-Forwarded-For", forwarded); a.status != status {
			t.Errorf("X-Forwarded-For %q: %d, not %d", forwarded, a.status, status)
		}
	}
	c.waitFor(1)
}

// TestExampleTwoGateways: the same callback at both is one event, and either delivers what the other took.
func TestExampleTwoGateways(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	r.do("CONFIG SET requirepass " + exampleSecrets["REDIS_PASSWORD"])
	c := newConsumer(t)
	one, two := newGateway(t), newGateway(t)
	for _, g := range []*gateway{one, two} {
		g.startFile(g.example("two-gateways.caddyfile", "10.0.0.5:6379", r.Address, "\t\t\ttls\n", "",
			"allow 203.0.113.0/24", "allow 127.0.0.1", "https://billing.example.com/hooks/vocals", c.URL()))
	}
	body := callback(t, "a")
	id := one.accept("/callbacks/vocals", body)
	if a := two.post("/callbacks/vocals", body); a.eventID() != id || a.header.Get("Relay-Duplicate") != "true" {
		t.Errorf("the other gateway answers %+v", a)
	}
	if got := c.waitFor(1)[0]; got.event() != id {
		t.Errorf("the consumer got %+v", got)
	}
	eventually(t, patience, "both gateways are listed", func() bool { return len(one.status().Nodes) == 2 })
}

// TestExampleChallenge: the question whether the URL is ours is answered, and callbacks go through all the same.
func TestExampleChallenge(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	g.startFile(g.example("get-challenge.caddyfile", "https://inbox.example.com/hooks/social", c.URL()))
	const question = "/callbacks/social?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
	if a := g.send(http.MethodGet, question+exampleSecrets["VERIFY_TOKEN"], ""); a.status != http.StatusOK || a.body != "1158201444" ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("the challenge is answered by %+v", a)
	}
	if a := g.send(http.MethodGet, question+"guess", ""); a.status != http.StatusMethodNotAllowed || strings.Contains(a.body, "1158201444") {
		t.Errorf("a stranger's challenge is answered by %+v", a)
	}
	body := `{"object":"page","entry":[{"id":"1","changes":[]}]}`
	if a := g.send(http.MethodPost, "/callbacks/social", body, "X-Hub-Signature-256", "sha256="+signHex(exampleSecrets["APP_SECRET"], body)); a.status != http.StatusOK {
		t.Errorf("a callback is answered by %+v", a)
	}
	if got := c.waitFor(1)[0]; got.body != body {
		t.Errorf("the consumer got %+v", got)
	}
	g.secretsUnseen()
}

// TestExampleTokens: a token in the query and one in a header let a callback in, and stay out of the log.
func TestExampleTokens(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	g.startFile(g.example("hidden-tokens.caddyfile", "https://billing.example.com/hooks/vocals", c.URL(), "https://billing.example.com/hooks/stems", c.URL()))
	token := exampleSecrets["CALLBACK_TOKEN"]
	g.accept("/callbacks/vocals?token="+token, callback(t, "a"))
	if a := g.send(http.MethodPost, "/callbacks/stems", callback(t, "a"), "X-Callback-Token", token); a.status != http.StatusOK {
		t.Errorf("the token in a header is answered by %+v", a)
	}
	checkRefusal(t, "no token", g.post("/callbacks/stems", callback(t, "b")), http.StatusUnauthorized)
	c.waitFor(2)
	g.secretsUnseen()
}

// TestExampleFilters: the conditions of the example decide each callback, while the shorter ones that it warns of fail for
// some, which are delivered and counted.
func TestExampleFilters(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	g.startFile(g.example("filters.caddyfile", "203.0.113.0/24", "127.0.0.1",
		"https://player.example.com/hooks/vocals", c.URL(), "https://mastering.example.com/hooks/vocals", c.URL(),
		"\trespond 404", `relay /naive naive {
			to player `+c.URL()+` {
				when `+"`has(data.info.url)`"+`
			}
			to mastering `+c.URL()+` {
				when `+"`data.duration / 60.0 >= 3.0`"+`
			}
		}
		respond 404`))
	for i, e := range []struct {
		data          string
		guarded       string // who gets it
		naive         string
		player, naked float64 // errors of the naive conditions
	}{
		{`"info":{"url":"https://files.example.com/1"},"duration":180.5`, "mastering player", "mastering player", 0, 0},
		{`"info":{"url":"https://files.example.com/1"},"duration":180`, "mastering player", "mastering player", 0, 1},
		{`"info":{},"duration":179.5`, "", "", 0, 0},
		{`"info":{},"duration":179`, "", "mastering", 0, 1},
		{`"duration":179.5`, "", "player", 1, 0},
		{`"info":null`, "", "mastering", 0, 1},
	} {
		body := fmt.Sprintf(`{"code":200,"data":{"task_id":"task-%d",%s}}`, i, e.data)
		errors := func(destination string) float64 {
			return max(0, g.metric(`caddy_relay_when_errors_total{destination="`+destination+`",source="naive"}`))
		}
		player, mastering := errors("player"), errors("mastering")
		for path, want := range map[string]string{"/callbacks/vocals": e.guarded, "/naive": e.naive} {
			if names := destinations(g.event(g.post(path, body).eventID())); strings.Join(names, " ") != want {
				t.Errorf("%s at %s goes to %v, not %q", e.data, path, names, want)
			}
		}
		if p, m := errors("player")-player, errors("mastering")-mastering; p != e.player || m != e.naked {
			t.Errorf("%s: %v and %v errors are counted, not %v and %v", e.data, p, m, e.player, e.naked)
		}
	}
	for _, destination := range []string{"player", "mastering"} {
		if n := g.metric(`caddy_relay_when_errors_total{destination="` + destination + `",source="vocals"}`); n > 0 {
			t.Errorf("the example's condition for %s failed %v times", destination, n)
		}
	}
}
