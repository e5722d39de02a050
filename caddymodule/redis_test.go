package caddymodule

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// redisStore provisions a store from its JSON.
func redisStore(t *testing.T, config string) (*Redis, error) {
	t.Helper()
	r := new(Redis)
	if err := json.Unmarshal([]byte(config), r); err != nil {
		return nil, err
	}
	return r, r.Provision(caddy.Context{})
}

func mustRedis(t *testing.T, config string) *Redis {
	t.Helper()
	r, err := redisStore(t, config)
	if err != nil {
		t.Fatalf("%s: %v", config, err)
	}
	return r
}

// TestRedisIdentity: a store elsewhere has another engine, and another spool; everything else has the same.
func TestRedisIdentity(t *testing.T) {
	dir := filepath.Join(dataDir(t), "caddy", "relay")
	t.Setenv("REDIS", "127.0.0.1:6379")
	byDefault := mustRedis(t, `{}`)
	if byDefault.spoolPath != filepath.Join(dir, "spool.db") {
		t.Errorf("the default spool is %s", byDefault.spoolPath)
	}
	for same, changed := range map[string]string{
		`{"addresses":["127.0.0.1:6379"]}`: "", `{"addresses":["{env.REDIS}"]}`: "", `{"key_prefix":"relay"}`: "", `{"username":"a","password":"b"}`: "",
		`{"timeout":"5s"}`: "timeout", `{"durability":"replica"}`: "durability", `{"partitions":16}`: "partitions", `{"tls":true}`: "tls", `{"cluster":true}`: "cluster",
		`{"spool":{}}`: "", `{"spool":{"off":true}}`: "spool", `{"tls":true,"spool":{"path":"/tmp/spool.db"}}`: "tls spool",
	} {
		r := mustRedis(t, same)
		if r.Identity() != byDefault.Identity() {
			t.Errorf("%s is %s", same, r.Identity())
		}
		if got := strings.Join(r.changes(byDefault), " "); got != changed {
			t.Errorf("%s changes %q", same, got)
		}
	}
	spools := map[string]string{byDefault.spoolPath: "{}"}
	for _, other := range []string{
		`{"addresses":["127.0.0.1:6380"]}`, `{"db":1}`, `{"key_prefix":"other"}`, `{"master_name":"m"}`,
		`{"addresses":["a:1","b:1"]}`, `{"addresses":["a:1","b:1"],"master_name":"m"}`,
	} {
		r := mustRedis(t, other)
		if r.Identity() == byDefault.Identity() {
			t.Errorf("%s is %s", other, r.Identity())
		}
		if first, ok := spools[r.spoolPath]; ok {
			t.Errorf("%s and %s have the spool %s", other, first, r.spoolPath)
		}
		spools[r.spoolPath] = other
	}
	if a, b := mustRedis(t, `{"addresses":["a:1","b:1"]}`), mustRedis(t, `{"addresses":["b:1","a:1"]}`); a.Identity() != b.Identity() || a.spoolPath != b.spoolPath {
		t.Errorf("the order of addresses makes %s and %s", a.Identity(), b.Identity())
	}
	if mustRedis(t, `{"spool":{"off":true}}`).Options().OpenSpool != nil {
		t.Error("a spool that is off is opened")
	}
	if o := mustRedis(t, `{"timeout":"3s"}`).Options(); o.StoreTimeout != 3*time.Second || o.OpenSpool == nil || o.OpenStore == nil {
		t.Errorf("the options are %+v", o)
	}
}

func TestRedisProvisionErrors(t *testing.T) {
	dataDir(t)
	t.Setenv("EMPTY", "")
	t.Setenv("SECRET", "hunter2")
	for config, expected := range map[string]string{
		`{"address":"a:1"}`:                                          `unknown field "address"`,
		`{"addresses":["a"]}`:                                        "expected an address as host:port",
		`{"addresses":["redis://:hunter2@a:1"]}`:                     "expected an address as host:port",
		`{"addresses":["{env.SECRET}"]}`:                             "expected host:port in {env.SECRET}",
		`{"addresses":["{env.EMPTY}"]}`:                              "the environment variable EMPTY is not set",
		`{"addresses":["a:1","a:1"]}`:                                "the address a:1 is repeated",
		`{"password":"{env.EMPTY}"}`:                                 "password: the environment variable EMPTY is not set",
		`{"password":"{http.vars.x}"}`:                               "password: placeholder {http.vars.x}",
		`{"password":"x","username":"{env.EMPTY}"}`:                  "username: the environment variable EMPTY is not set",
		`{"username":"relay"}`:                                       "username: expected a password with it",
		`{"db":-1}`:                                                  "db: expected the number of a database",
		`{"db":1,"cluster":true}`:                                    "a Cluster has only database 0",
		`{"db":1,"addresses":["a:1","b:1"]}`:                         "a Cluster has only database 0",
		`{"master_name":"m","cluster":true}`:                         "expected either master_name",
		`{"partitions":-1}`:                                          "partitions: expected a number from 1 to 256, got -1",
		`{"partitions":257}`:                                         "partitions: expected a number from 1 to 256, got 257",
		`{"timeout":"-1s"}`:                                          "timeout: expected a positive duration",
		`{"key_prefix":"{relay}"}`:                                   "key_prefix: expected up to 63",
		`{"durability":"disk"}`:                                      "durability: expected memory or replica",
		`{"spool":{"off":true,"path":"/tmp/x"}}`:                     "spool: expected either off, or a path",
		`{"spool":{"path":"{env.EMPTY}"}}`:                           "spool: the environment variable EMPTY is not set",
		`{"spool":{"size":1}}`:                                       `unknown field "size"`,
		`{"db":1,"addresses":["a:1","{env.SECRET}"],"password":"x"}`: "a Cluster has only database 0",
	} {
		store := `{"driver":"redis",` + config[1:]
		err := validate(t, `{"apps":{"relay":{"store":`+store+`}}}`)
		if err == nil || !strings.Contains(err.Error(), expected) {
			t.Errorf("%s: got %v, expected an error with %q", config, err, expected)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

// TestRedisAway runs without the Redis that it is configured with: neither validating nor starting needs it, and the spool
// takes callbacks. A reload with other settings of the same store keeps the engine, and says so.
func TestRedisAway(t *testing.T) {
	g := newGateway(t)
	t.Setenv("REDIS_PASSWORD", "hunter2")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close() // nobody answers there
	store := func(fields string) string {
		return `{"store":{"driver":"redis","addresses":["` + address + `"]` + fields + `}}`
	}
	c := newConsumer(t, http.StatusOK)

	if err := validate(t, `{"apps":{"relay":`+store("")+`}}`); err != nil {
		t.Error(err)
	}
	before := len(logged())
	g.mustLoad(store(`,"password":"{env.REDIS_PASSWORD}"`), to(t, c.URL, nil))
	pooled := activeApp(t).pooled
	id := g.accept("vocals", "task-1")
	if status, again := g.call("vocals", `{"code":200,"data":{"task_id":"task-2"}}`); status != http.StatusOK || again == id {
		t.Errorf("status %d, event %s", status, again)
	}
	status := mustAdmin(t, http.MethodGet, "/relay/status", "")
	spool := status["spool"].(map[string]any)
	if spool["up"] != true || spool["events"] != 2.0 || spool["free_bytes"] == 0.0 || !strings.Contains(spool["location"].(string), filepath.Join("relay", "spool-")) {
		t.Errorf("the spool is %v", spool)
	}
	if s := status["store"].(map[string]any); s["driver"] != "redis" || s["up"] != false {
		t.Errorf("the store is %v", s)
	}
	const outdated, changed, literal = "those that changed count after a restart", `"changed":"timeout, spool"`, "the password of store is in the config"
	if lines := logged()[before:]; strings.Contains(lines, outdated) || strings.Contains(lines, literal) {
		t.Errorf("a warning too many:\n%s", lines)
	}

	// What waits in the spool is not left behind.
	if err := g.load(store(`,"db":1`), nil, to(t, c.URL, nil)); err == nil || !strings.Contains(err.Error(), "still holds 2 callbacks in its spool") {
		t.Errorf("another store: %v", err)
	}

	before = len(logged())
	g.mustLoad(store(`,"password":"hunter2","timeout":"1s","spool":{"path":"`+filepath.Join(g.dir, "other.db")+`"}`), to(t, c.URL, nil))
	if activeApp(t).pooled != pooled {
		t.Error("the reload made another engine")
	}
	lines := logged()[before:]
	if !strings.Contains(lines, outdated) || !strings.Contains(lines, changed) || !strings.Contains(lines, literal) {
		t.Errorf("no warning:\n%s", lines)
	}
	if strings.Contains(logged(), "hunter2") {
		t.Error("the password was logged")
	}
}

// TestRedisPassword sets the password that Redis wants by a reload, which needs no restart.
func TestRedisPassword(t *testing.T) {
	g := newGateway(t)
	redis := startRedis(t)
	if _, err := redis.Do("CONFIG SET requirepass hunter2"); err != nil {
		t.Fatal(err)
	}
	c := newConsumer(t, http.StatusOK)
	config := func(fields string) string {
		return `{"store":{"driver":"redis","addresses":["` + redis.Address + `"],"timeout":"500ms"` + fields + `}}`
	}
	storeError := func() string {
		text, _ := mustAdmin(t, http.MethodGet, "/relay/status", "")["store"].(map[string]any)["error"].(string)
		return text
	}
	g.mustLoad(config(""), to(t, c.URL, nil))
	if text := storeError(); !strings.Contains(text, "set password in the store") {
		t.Errorf("without the password the status has %q", text)
	}
	before := len(logged())
	g.mustLoad(config(`,"password":"hunter2"`), to(t, c.URL, nil))
	eventually(t, "the status follows the config", func() bool { return storeError() == "" })
	if lines := logged()[before:]; strings.Contains(lines, "count after a restart") {
		t.Errorf("a warning too many: %s", lines)
	}
	g.accept("vocals", "task-1")
	c.await(t)
}

func startRedis(t *testing.T) *servers.Redis {
	t.Helper()
	redis, err := servers.NewRedis(t.TempDir())
	if err == nil {
		err = redis.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Kill)
	return redis
}

// TestRedisDrift: what may be in the config of another gateway is not deleted, and the answer names that gateway and what to
// do about it.
func TestRedisDrift(t *testing.T) {
	g := newGateway(t)
	redis := startRedis(t)
	g.mustLoad(`{"store":{"driver":"redis","addresses":["`+redis.Address+`"]}}`, to(t, "http://127.0.0.1:9", nil))
	other, err := redisstore.Open(t.Context(), redisstore.Options{Addresses: []string{redis.Address}, Node: "west"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
	other.Announce("another config")
	if nodes, err := other.LiveNodes(t.Context()); err != nil || len(nodes) != 2 {
		t.Fatalf("the gateways are %v, %v", nodes, err)
	}
	for path, body := range map[string]string{
		"/relay/dead-letters/discard":                  `{"all":true,"orphaned":true}`,
		"/relay/destinations/vocals/invoices/reassign": `{"to":"billing"}`,
	} {
		status, answer := admin(t, http.MethodPost, path, body)
		message, _ := answer["message"].(string)
		if status != http.StatusConflict || answer["error"] != "conflict" || !strings.Contains(message, "may be delivered by west (process ") ||
			!strings.Contains(message, "load the same config on all gateways, or stop that one") {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
	mustAdmin(t, http.MethodPost, "/relay/dead-letters/discard", `{"all":true}`)
}
