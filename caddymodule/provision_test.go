package caddymodule

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// validate does what `caddy validate` does.
func validate(t *testing.T, config string) error {
	t.Helper()
	var cfg *caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(config), &cfg); err != nil {
		return err
	}
	return caddy.Validate(cfg)
}

// dataDir sets Caddy's data directory to one of the test's own, and returns it.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	return dir
}

// TestAdaptedProvisions provisions every configuration that the adapter gives, without opening a store.
func TestAdaptedProvisions(t *testing.T) {
	dir := dataDir(t)
	const secret = "whsec_bm90IGEgc2VjcmV0LCBhIHRlc3Qga2V5"
	for _, name := range []string{"TOKEN", "OLD_TOKEN", "SECRET", "HMAC_SECRET", "PREVIOUS", "REDIS_PASSWORD", "S3_KEY", "S3_SECRET"} {
		t.Setenv(name, secret)
	}
	t.Setenv("ED25519_KEY", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	t.Setenv("JWKS_URL", "https://keys.example.com/jwks.json")
	t.Setenv("FILES_URL", "https://files.example.com/hook")
	t.Setenv("REDIS_ADDRESS", "redis.example.com:6379")
	t.Setenv("FILES", filepath.Join(dir, "files"))
	t.Setenv("RELAY_DB", filepath.Join(dir, "env.db"))
	for _, name := range []string{"billing", "kie", "redis", "s3"} {
		writeFile(t, filepath.Join(dir, name), secret+"\n")
	}
	files, err := filepath.Glob("testdata/*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "errors_") {
			continue
		}
		for i, c := range readCases(t, file) {
			t.Run(filepath.Base(file)+"/"+strconv.Itoa(i+1), func(t *testing.T) {
				if err := validate(t, strings.ReplaceAll(c.expected, "/run/secrets", dir)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, name := range []string{"relay.db", "spool.db"} {
		if _, err := os.Stat(filepath.Join(dir, "caddy", "relay", name)); !os.IsNotExist(err) {
			t.Errorf("provisioning opened %s: %v", name, err)
		}
	}
}

// handlerConfig is a config with one handler, whose JSON is source and destination with some fields set otherwise.
func handlerConfig(t *testing.T, source, destination map[string]any) map[string]any {
	t.Helper()
	d := map[string]any{"name": "billing", "url": "https://billing.example.com/hook"}
	maps.Copy(d, destination)
	h := map[string]any{"handler": "relay", "source": "vocals", "destinations": []any{d}}
	maps.Copy(h, source)
	return h
}

func serverConfig(server map[string]any, handlers ...map[string]any) string {
	var routes []any
	for _, h := range handlers {
		routes = append(routes, map[string]any{"handle": []any{h}})
	}
	s := map[string]any{"listen": []string{":8080"}, "routes": routes}
	maps.Copy(s, server)
	b, err := json.Marshal(map[string]any{"apps": map[string]any{"http": map[string]any{"servers": map[string]any{"srv0": s}}}})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestProvisionErrors has what JSON can get wrong: the same as a Caddyfile, and more.
func TestProvisionErrors(t *testing.T) {
	dir := dataDir(t)
	writeFile(t, filepath.Join(dir, "empty"), "\n")
	writeFile(t, filepath.Join(dir, "large"), strings.Repeat("x", maxFile+1))
	t.Setenv("EMPTY", "")
	t.Setenv("NOT_A_URL", "ftp://user:hunter2@example.com")
	t.Setenv("NOT_A_KEY", "hunter2")
	t.Setenv("NOT_A_VALUE", "hunter2\n")
	type fields = map[string]any
	for name, c := range map[string]struct {
		source, destination fields
		expected            string
	}{
		"archive that is unknown": {fields{"archive": fields{"storage": "ftp"}}, nil, `unknown module: relay.archives.ftp`},
		"archive without folder":  {fields{"archive": fields{"storage": "file"}}, nil, `dir: expected a folder`},
		"archive without hosts":   {fields{"archive": fields{"storage": "file", "dir": "/f", "hosts": []string{}}}, nil, `archive: hosts: expected at least one entry`},
		"archive without stages":  {fields{"archive": fields{"storage": "file", "dir": "/f", "stages": []string{}}}, nil, `archive: stages: expected at least one stage`},
		"archive with a size":     {fields{"archive": fields{"storage": "file", "dir": "/f", "max_size": -1}}, nil, `archive: max_size: expected a size of 1 byte to 100GiB`},
		"archive with a URL":      {fields{"archive": fields{"storage": "file", "dir": "/f", "url_prefix": "{env.NOT_A_URL}"}}, nil, `archive: url_prefix: expected an http or https URL`},
		"archive without a key": {
			fields{"archive": fields{"storage": "s3", "bucket": "files", "endpoint": "s3.example.com", "access_key": "a"}},
			nil,
			`secret_key: expected a text`,
		},
		"archive without an endpoint": {
			fields{"archive": fields{"storage": "s3", "bucket": "files", "access_key": "a", "secret_key": "b"}},
			nil,
			`endpoint: expected a text`,
		},
		"body archived, no archive": {nil, fields{"body": "archived"}, `destination "billing": body archived: expected archive with url_prefix`},
		"no source":                 {fields{"source": ""}, nil, `expected a name of up to 63`},
		"unknown field":             {fields{"destination": "x"}, nil, `unknown field "destination"`},
		"no destination":            {fields{"destinations": []any{}}, nil, "expected at least one destination"},
		"unknown provider":          {fields{"provider": fields{"name": "openai"}}, nil, "unknown module: relay.providers.openai"},
		"custom without id":         {fields{"provider": fields{"name": "custom"}}, nil, "provider custom: expected task_id with the gjson path"},
		"unknown verifier":          {fields{"verify": []any{fields{"verifier": "rsa"}}}, nil, "unknown module: relay.verifiers.rsa"},
		"verifier, no secret":       {fields{"verify": []any{fields{"verifier": "kie"}}}, nil, "a verifier needs a secret"},
		"secret not set":            {fields{"verify": []any{fields{"verifier": "kie", "secret": "{env.EMPTY}"}}}, nil, "the environment variable EMPTY is not set"},
		"secret of a request":       {fields{"verify": []any{fields{"verifier": "kie", "secret": "{http.vars.x}"}}}, nil, "only {env.NAME} and {file./absolute/path}"},
		"secret file relative":      {fields{"verify": []any{fields{"verifier": "kie", "secret": "{file.secret}"}}}, nil, "expected an absolute path"},
		"recover, no provider":      {fields{"provider": fields{"name": "custom", "task_id": "id"}, "recover": fields{}}, nil, "recover: provider custom cannot be asked"},
		"recover by path":           {fields{"dedupe": []string{"path:id"}, "recover": fields{}}, nil, "recover: expected dedupe by task_id, stage and code alone"},
		"recover, negative":         {fields{"recover": fields{"after": "-1s"}}, nil, "recover: after: expected a positive duration"},
		"recover, unknown":          {fields{"recover": fields{"until": "1h"}}, nil, `unknown field "until"`},
		"recover, base":             {fields{"recover": fields{"base": "{env.NOT_A_URL}"}}, nil, "recover: base: expected an http or https URL"},
		"recover, header":           {fields{"recover": fields{"header": fields{"Authorization": "{env.NOT_A_VALUE}"}}}, nil, "recover: header: Authorization: expected a value without control"},
		"secret file missing":       {fields{"verify": []any{fields{"verifier": "kie", "secret": "{file." + dir + "/none}"}}}, nil, "no such file"},
		"secret file empty":         {fields{"verify": []any{fields{"verifier": "kie", "secret": "{file." + dir + "/empty}"}}}, nil, "is empty"},
		"secret file large":         {fields{"verify": []any{fields{"verifier": "kie", "secret": "{file." + dir + "/large}"}}}, nil, "is larger than"},
		"ed25519 key of env":        {fields{"verify": []any{fields{"verifier": "ed25519", "key": "{env.NOT_A_KEY}", "header": "S"}}}, nil, "key: expected an Ed25519 public key"},
		"ed25519 jwks of env":       {fields{"verify": []any{fields{"verifier": "ed25519", "jwks": "{env.NOT_A_URL}", "header": "S"}}}, nil, "jwks: expected an https URL"},
		"ed25519, neither":          {fields{"verify": []any{fields{"verifier": "ed25519", "header": "S"}}}, nil, "expected either key or jwks"},
		"scheme":                    {fields{"verify": []any{fields{"verifier": "hmac", "secret": "x", "header": "S", "scheme": []string{"v1"}, "prefix": "p"}}}, nil, "expected either prefix or scheme"},
		"negative tolerance":        {fields{"verify": []any{fields{"verifier": "kie", "secret": "x", "tolerance": "-1s"}}}, nil, "tolerance must not be negative"},
		"allow":                     {fields{"allow": []string{"example.com"}}, nil, "expected an IP address, a CIDR range"},
		"no allow_from":             {fields{"allow_from": []any{}}, nil, "expected at least one entry"},
		"allow_from, unknown":       {fields{"allow_from": []any{fields{"source": "nowhere"}}}, nil, "allow_from: "},
		"allow_from":                {fields{"allow_from": []any{fields{"source": "static", "ranges": []string{"example.com"}}}}, nil, "allow_from: "},
		"allow_mode":                {fields{"allow": []string{"10.0.0.1"}, "allow_mode": "log"}, nil, `allow_mode: expected enforce or observe, got "log"`},
		"allow_mode, no list":       {fields{"allow_mode": "observe"}, nil, "allow_mode: expected allow or allow_from beside it"},
		"body of callbacks":         {fields{"body": "xml"}, nil, `body: expected json, form or any, got "xml"`},
		"conflict":                  {fields{"conflict": "drop"}, nil, `conflict: expected keep or deliver, got "drop"`},
		"custom, two headers":       {fields{"provider": fields{"name": "custom", "task_id": []string{"header:A", "header:B"}}}, nil, "a header has the task id alone"},
		"custom, json_text":         {fields{"provider": fields{"name": "custom", "task_id": "id", "json_text": "a.#.b"}}, nil, "json_text: "},
		"dedupe":                    {fields{"dedupe": []string{"task"}}, nil, `dedupe: expected task_id, stage`},
		"dedupe_window":             {fields{"dedupe_window": "-1h"}, nil, "dedupe_window: expected a positive duration"},
		"max_body":                  {fields{"max_body": 33 << 20}, nil, "max_body: expected a size"},
		"max_body negative":         {fields{"max_body": -1}, nil, "max_body: expected a size"},
		"ack_within":                {fields{"ack_within": "15s"}, nil, "ack_within: expected a duration above 0 and up to 14s"},
		"respond":                   {fields{"respond": fields{"status": 503}}, nil, "respond: expected a 2xx status"},
		"respond body":              {fields{"respond": fields{"status": 204, "body": "x"}}, nil, "status 204 has no body"},
		"empty allow":               {fields{"allow": []string{}}, nil, "expected at least one entry"},
		"empty verify":              {fields{"verify": []any{}}, nil, "expected at least one entry"},
		"null":                      {fields{"destinations": []any{nil}}, nil, "expected at least one destination"},
		"two of one name":           {fields{"destinations": []any{fields{"url": "https://a"}, fields{"url": "https://a/b"}}}, nil, `two destinations are named "a"`},
		"reserved name":             {nil, fields{"name": "archive"}, "the name archive is reserved"},
		"bad name":                  {nil, fields{"name": "a b"}, "expected a name of up to 63"},
		"no url":                    {nil, fields{"url": ""}, "url: expected an http or https URL"},
		"no name for the url":       {nil, fields{"name": "", "url": "{env.NOT_A_URL}"}, "a URL with a placeholder needs a name"},
		"resolved url":              {nil, fields{"url": "{env.NOT_A_URL}"}, "url: expected an http or https URL"},
		"when":                      {nil, fields{"when": "code =="}, "when: ERROR"},
		"timeout":                   {nil, fields{"timeout": "-1s"}, "timeout: expected a positive duration"},
		"retry of two kinds":        {nil, fields{"retry": fields{"delays": []string{"1m"}, "off": true}}, "retry: expected one of"},
		"retry without count":       {nil, fields{"retry": fields{"first": "1s", "longest": "1m"}}, "retry: expected exponential waits"},
		"retry at once":             {nil, fields{"retry": fields{"delays": []any{0}}}, "retry: expected a positive duration"},
		"permanent":                 {nil, fields{"permanent": []int{200}}, "permanent: expected response statuses"},
		"header":                    {nil, fields{"header": fields{"Relay-Source": "x"}}, "Relay-Source is set by the relay itself"},
		"header twice":              {nil, fields{"header": fields{"X-Key": "x", "x-key": "y"}}, "is repeated"},
		"header value":              {nil, fields{"header": fields{"X-Key": "{env.NOT_A_VALUE}"}}, "expected a value without control characters"},
		"sign":                      {nil, fields{"sign": fields{"secret": "{env.NOT_A_KEY}"}}, "a signing secret must be whsec_"},
		"sign without a secret":     {nil, fields{"sign": fields{"previous": "whsec_c2VjcmV0"}}, "a signing secret must be whsec_"},
		"max_in_flight":             {nil, fields{"max_in_flight": -1}, "max_in_flight: expected a number of at least 1"},
		"rate":                      {nil, fields{"rate": "10"}, "rate: expected <n>/<s|m|h>"},
		"breaker":                   {nil, fields{"breaker": fields{"failures": -1}}, "breaker: expected at least 1 failure"},
		"breaker off and on":        {nil, fields{"breaker": fields{"failures": 3, "off": true}}, "breaker: expected either off"},
		"expire":                    {nil, fields{"expire": "-1h"}, "expire: expected a positive duration"},
		"order":                     {nil, fields{"order": "strict"}, "order: expected task"},
		"body":                      {nil, fields{"body": "rewritten"}, `body: expected original or archived, got "rewritten"`},
		"transport":                 {nil, fields{"transport": fields{"protocol": "pigeon"}}, "unknown module: http.reverse_proxy.transport.pigeon"},
		"proxy_protocol":            {nil, fields{"transport": fields{"protocol": "http", "proxy_protocol": "v1"}}, "proxy_protocol has no client"},
		"tls on http":               {nil, fields{"url": "http://a", "transport": fields{"protocol": "http", "tls": fields{}}}, "tls has no effect on an http URL"},
		"HTTP/3 on http":            {nil, fields{"url": "http://a", "transport": fields{"protocol": "http", "versions": []string{"3"}}}, "versions 3 cannot reach an http URL"},
	} {
		t.Run(name, func(t *testing.T) {
			err := validate(t, serverConfig(nil, handlerConfig(t, c.source, c.destination)))
			if err == nil || !strings.Contains(err.Error(), c.expected) {
				t.Fatalf("got %v, expected an error with %q", err, c.expected)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestAppProvisionErrors(t *testing.T) {
	dir := dataDir(t)
	t.Setenv("EMPTY", "")
	file := filepath.Join(dir, "file")
	writeFile(t, file, "")
	for config, expected := range map[string]string{
		`{"store":{"driver":"paper"}}`:                                                "unknown module: relay.stores.paper",
		`{"store":{"driver":"sqlite","file":"x"}}`:                                    `unknown field "file"`,
		`{"store":{"driver":"sqlite","path":"{env.EMPTY}"}}`:                          "the environment variable EMPTY is not set",
		`{"store":{"driver":"sqlite","path":"` + file + `/deep/relay.db"}}`:           file + "/deep/relay.db: " + file + " is a file; expected a folder",
		`{"store":{"driver":"redis","spool":{"path":"` + file + `/spool.db"}}}`:       "spool: " + file + "/spool.db: " + file + " is a file",
		`{"alerts":{"destinations":[{"url":"https://a.example","body":"archived"}]}}`: `alerts: destination "a.example": body archived: alerts have no archive`,
		`{"retention":"-1h"}`: "retention: expected a positive duration",
		`{"drain":"soon"}`:    "invalid duration",
		`{"sources":{}}`:      `unknown field "sources"`,
		`{"store":{"driver":"sqlite","path":"` + dir + `/"}}`:         dir + "/ is a folder; expected a file",
		`{"store":{"driver":"redis","spool":{"path":"` + dir + `"}}}`: "spool: " + dir + " is a folder; expected a file",
	} {
		err := validate(t, `{"apps":{"relay":`+config+`}}`)
		if err == nil || !strings.Contains(err.Error(), expected) {
			t.Errorf("%s: got %v, expected an error with %q", config, err, expected)
		}
	}
}

// TestOneSource provisions several handlers of one source.
func TestOneSource(t *testing.T) {
	dataDir(t)
	a := handlerConfig(t, map[string]any{"dedupe_window": "24h"}, nil)
	same := handlerConfig(t, map[string]any{"dedupe_window": "1d"}, nil)
	if err := validate(t, serverConfig(nil, a, same)); err != nil {
		t.Error(err)
	}
	other := handlerConfig(t, map[string]any{"dedupe_window": "25h"}, nil)
	noPermanent := handlerConfig(t, map[string]any{"dedupe_window": "24h"}, map[string]any{"permanent": []int{}})
	noAllow := handlerConfig(t, map[string]any{"dedupe_window": "24h", "allow": []string{}}, nil)
	noAllowFrom := handlerConfig(t, map[string]any{"dedupe_window": "24h", "allow_from": []any{}}, nil)
	noVerify := handlerConfig(t, map[string]any{"dedupe_window": "24h", "verify": []any{}}, nil)
	for _, other := range []map[string]any{other, noPermanent, noAllow, noAllowFrom, noVerify} {
		err := validate(t, serverConfig(nil, a, other))
		if err == nil || !strings.Contains(err.Error(), `source "vocals" is defined differently by two relay handlers`) {
			t.Errorf("%v: got %v", other, err)
		}
	}
}

// TestTrustedProxies checks the guard of address lists, which depends on unexported fields of Caddy's server.
func TestTrustedProxies(t *testing.T) {
	dataDir(t)
	listed := handlerConfig(t, map[string]any{"allow": []string{"203.0.113.0/24"}}, nil)
	listedElsewhere := handlerConfig(t, map[string]any{"allow_from": []any{map[string]any{"source": "static", "ranges": []string{"203.0.113.0/24"}}}}, nil)
	open := handlerConfig(t, nil, nil)
	proxies := map[string]any{"source": "static", "ranges": []string{"10.0.0.0/8"}}
	for _, c := range []struct {
		server  map[string]any
		handler map[string]any
		refused bool
	}{
		{proxyProtocol(nil), listed, false},
		{proxyProtocol(map[string]any{"allow": []string{"10.0.0.0/8"}}), listed, false},
		{proxyProtocol(map[string]any{"allow": []string{"10.0.0.0/8"}, "fallback_policy": "REJECT"}), listed, false},
		{proxyProtocol(map[string]any{"allow": []string{"10.0.0.0/8"}, "fallback_policy": "USE"}), listed, true},
		{proxyProtocol(map[string]any{"fallback_policy": "REQUIRE"}), listedElsewhere, true},
		{proxyProtocol(map[string]any{"allow": []string{"10.0.0.0/8", "0.0.0.0/0"}}), listed, true},
		{proxyProtocol(map[string]any{"fallback_policy": "USE"}), open, false},
		{nil, listed, false},
		{map[string]any{"trusted_proxies": proxies}, open, false},
		{map[string]any{"trusted_proxies": proxies}, listed, true},
		{map[string]any{"trusted_proxies_unix": true}, listed, true},
		{map[string]any{"trusted_proxies_unix": true}, listedElsewhere, true},
		{map[string]any{"trusted_proxies_unix": true, "trusted_proxies_strict": 1}, listedElsewhere, false},
		{map[string]any{"trusted_proxies": proxies, "trusted_proxies_strict": 1}, listed, false},
	} {
		nested := map[string]any{"handler": "subroute", "routes": []any{map[string]any{"handle": []any{c.handler}}}}
		for _, h := range []map[string]any{c.handler, nested} {
			err := validate(t, serverConfig(c.server, h))
			if refused := err != nil && strings.Contains(err.Error(), "can forge its address"); refused != c.refused || err != nil && !refused {
				t.Errorf("%v, %v: %v", c.server, h, err)
			}
		}
	}
}

// proxyProtocol returns the settings of a server whose peers may name their clients.
func proxyProtocol(wrapper map[string]any) map[string]any {
	all := map[string]any{"wrapper": "proxy_protocol"}
	maps.Copy(all, wrapper)
	return map[string]any{"listener_wrappers": []any{all, map[string]any{"wrapper": "tls"}}}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
