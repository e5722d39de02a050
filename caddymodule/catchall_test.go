package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth"
)

// TestCatchAll validates sites with and without an answer to what misses their relay.
func TestCatchAll(t *testing.T) {
	dataDir(t)
	const vocals = "relay /callbacks/vocals vocals {\n to https://billing.example.com\n}\n"
	const auth = "forward_auth localhost:1 {\n uri /auth\n copy_headers Remote-User\n}\n"
	handled := func(response string) string {
		return ":8080 {\n" + vocals + "reverse_proxy localhost:1 {\n@ok status 2xx\n" + response + "\n}\n}"
	}
	const all = "relay vocals {\n to https://billing.example.com\n}\n"
	for name, c := range map[string]struct {
		caddyfile string
		warned    bool
	}{
		"nothing":                  {":8080 {\n" + vocals + "}", true},
		"respond":                  {":8080 {\n" + vocals + "respond 404\n}", false},
		"respond to everything":    {":8080 {\n" + vocals + "respond * 404\n}", false},
		"respond to some":          {":8080 {\n" + vocals + "respond /other 404\n}", true},
		"respond below":            {":8080 {\n" + vocals + "respond /callbacks/* 404\n}", true},
		"error":                    {":8080 {\nroute {\n" + vocals + "error 404\n}\n}", false},
		"error, which comes first": {":8080 {\n" + vocals + "error 404\n}", false},
		"abort":                    {":8080 {\n" + vocals + "abort\n}", false},
		"redir":                    {":8080 {\n" + vocals + "redir https://example.com\n}", false},
		"file_server":              {":8080 {\n" + vocals + "file_server\n}", false},
		"reverse_proxy":            {":8080 {\n" + vocals + "reverse_proxy localhost:1\n}", false},
		"file_server passes on":    {":8080 {\n" + vocals + "file_server {\n pass_thru\n}\n}", true},
		"forward_auth":             {":8080 {\n" + auth + vocals + "}", true},
		"forward_auth, respond":    {":8080 {\n" + auth + vocals + "respond 404\n}", false},
		"forward_auth behind":      {":8080 {\nroute {\n" + vocals + auth + "}\n}", true},
		"proxy passes on some":     {handled("handle_response @ok {\n header X-Test 1\n}"), true},
		"proxy passes on all":      {handled("handle_response {\n header X-Test 1\n}"), true},
		"proxy answers some":       {handled("handle_response @ok {\n respond /a 404\n}"), true},
		"proxy answers all":        {handled("handle_response @ok {\n respond 404\n}"), false},
		"proxy copies":             {handled("handle_response @ok {\n copy_response\n}"), false},
		"proxy replaces status":    {handled("replace_status @ok 204"), false},
		"only middleware":          {":8080 {\n" + vocals + "header X-Test 1\nvars a b\n}", true},
		"no matcher":               {":8080 {\n" + all + "}", false},
		"another relay":            {":8080 {\n" + vocals + "relay stems {\n to https://billing.example.com\n}\n}", false},
		"method only":              {":8080 {\n@post method POST\nrelay @post vocals {\n to https://billing.example.com\n}\n}", false},
		"handle":                   {":8080 {\nhandle {\n" + vocals + "}\n}", true},
		"handle respond":           {":8080 {\nhandle {\n" + vocals + "respond 404\n}\n}", false},
		"handle, then respond":     {":8080 {\nhandle {\n" + vocals + "}\nrespond 404\n}", false},
		"handles":                  {":8080 {\nhandle /callbacks/vocals {\n" + all + "}\nhandle {\nrespond 404\n}\n}", false},
		"handles, no last":         {":8080 {\nhandle /callbacks/vocals {\n" + all + "}\nhandle /other {\nrespond 404\n}\n}", true},
		"nested in a handle":       {":8080 {\nhandle /callbacks/* {\n" + vocals + "}\nhandle {\nrespond 404\n}\n}", true},
		"nested, respond inside":   {":8080 {\nhandle /callbacks/* {\n" + vocals + "respond 404\n}\nhandle {\nrespond 404\n}\n}", false},
		"nested, respond in one":   {":8080 {\nhandle /callbacks/* {\n" + vocals + "respond 404\n}\n}", true},
		"handle_path":              {":8080 {\nhandle_path /callbacks/* {\nrelay /vocals vocals {\n to https://billing.example.com\n}\n}\nrespond 404\n}", false},
		"route":                    {":8080 {\nroute {\n" + vocals + "respond 404\n}\n}", false},
		"route, nothing":           {":8080 {\nroute {\n" + vocals + "}\n}", true},
		"sites":                    {"http://a.example.com {\n" + vocals + "}\nhttp://b.example.com {\nrespond 404\n}\nhttp:// {\nrespond 404\n}", true},
		"sites, each":              {"http://a.example.com {\n" + vocals + "respond 404\n}\nhttp://b.example.com {\n" + vocals + "respond 404\n}", false},
		"sites, not the second":    {"http://a.example.com {\n" + vocals + "respond 404\n}\nhttp://b.example.com {\n" + vocals + "}", true},
		"named route":              {"&(callbacks) {\n" + vocals + "}\n:8080 {\ninvoke callbacks\n}", true},
		"named route, respond":     {"&(callbacks) {\n" + vocals + "}\n:8080 {\ninvoke callbacks\nrespond 404\n}", false},
		"named catch-all":          {"&(none) {\nrespond 404\n}\n:8080 {\nroute {\n" + vocals + "invoke none\n}\n}", false},
		"named route and relay":    {"&(callbacks) {\n" + vocals + "}\n:8080 {\nroute {\n" + vocals + "invoke callbacks\n}\n}", true},
		"snippet":                  {"(callbacks) {\n" + vocals + "}\n:8080 {\nimport callbacks\n}", true},
		"errors are handled":       {":8080 {\n" + vocals + "handle_errors {\nrespond 404\n}\n}", true},
		"a site without any relay": {":8080 {\n" + vocals + "respond 404\n}\n:8081 {\nheader X-Test 1\n}", false},
	} {
		t.Run(name, func(t *testing.T) {
			adapted, err := adapt(c.caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			checkCatchAll(t, string(adapted), c.warned)
		})
	}
}

// TestUnreached validates sites in which another handler may answer what is meant for relay.
func TestUnreached(t *testing.T) {
	dataDir(t)
	const vocals = "relay /callbacks/vocals vocals {\n to https://billing.example.com\n}\n"
	const all = "relay vocals {\n to https://billing.example.com\n}\n"
	for name, c := range map[string]struct {
		caddyfile string
		behind    string // empty: no warning
	}{
		"health":                    {":8080 {\nrelay_health\n" + vocals + "}", "relay_health"},
		"health, respond":           {":8080 {\nrelay_health\n" + vocals + "respond 404\n}", "relay_health"},
		"health of a path":          {":8080 {\nrelay_health /health\n" + vocals + "respond 404\n}", ""},
		"health behind":             {":8080 {\nroute {\n" + vocals + "relay_health\n}\n}", ""},
		"health of any path":        {":8080 {\nrelay_health /*\n" + vocals + "}", "relay_health"},
		"health of a host":          {"http://a.example.com {\nrelay_health\n" + vocals + "}", "relay_health"},
		"health of another host":    {"http://a.example.com {\nrelay_health\n}\nhttp://b.example.com {\n" + vocals + "respond 404\n}", ""},
		"health of another port":    {":8081 {\nrelay_health\n}\n:8080 {\n" + vocals + "respond 404\n}", ""},
		"health in a handle":        {":8080 {\nhandle {\nrelay_health\n}\n" + vocals + "}", "relay_health"},
		"health, relay in a handle": {":8080 {\nhandle /callbacks/* {\nrelay_health\n" + all + "}\nrespond 404\n}", "relay_health"},
		"handles":                   {":8080 {\nhandle /callbacks/* {\n" + all + "}\nhandle {\nrelay_health\n}\n}", ""},
		"behind handles":            {":8080 {\nhandle /callbacks/* {\nheader X-Test 1\n}\nhandle {\nrelay_health\n}\n" + vocals + "respond 404\n}", ""},
		"health of a named route":   {"&(health) {\nrelay_health\n}\n:8080 {\ninvoke health\n" + vocals + "}", "relay_health"},
		"dashboard":                 {":8080 {\nroute {\nrelay_dashboard\n" + vocals + "}\n}", "relay_dashboard"},
		"dashboard behind":          {":8080 {\nrelay_dashboard\n" + vocals + "}", ""},
		"dashboard of a path":       {":8080 {\nhandle_path /dashboard/* {\nrelay_dashboard\n}\n" + vocals + "respond 404\n}", ""},
		"another relay":             {":8080 {\nroute {\nrelay stems {\n to https://billing.example.com\n}\n" + vocals + "}\n}", "relay"},
		"respond":                   {":8080 {\nroute {\nrespond 404\n" + vocals + "}\n}", "static_response"},
		"respond to some":           {":8080 {\nroute {\nrespond /other 404\n" + vocals + "respond 404\n}\n}", ""},
		"forward_auth":              {":8080 {\nforward_auth localhost:1 {\n uri /auth\n}\n" + vocals + "respond 404\n}", ""},
		"reverse_proxy":             {":8080 {\nroute {\nreverse_proxy localhost:1\n" + vocals + "}\n}", "reverse_proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			adapted, err := adapt(c.caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			lines := validated(t, string(adapted))
			_, line, warned := strings.Cut(lines, "no callback gets to relay")
			if warned != (c.behind != "") || warned && (!strings.Contains(line, `"source":"vocals","handler":"`+c.behind+`"`) || strings.Contains(lines, "no catch-all")) {
				t.Errorf("expected a handler %q, got:\n%s", c.behind, lines)
			}
		})
	}
}

// TestCatchAllInJSON has what a Caddyfile does not make.
func TestCatchAllInJSON(t *testing.T) {
	dataDir(t)
	const relay = `{"handler":"relay","source":"vocals","destinations":[{"url":"https://billing.example.com"}]}`
	const match = `"match":[{"host":["a.example.com"],"path":["/callbacks/vocals"]}]`
	for name, c := range map[string]struct {
		routes string
		warned bool
	}{
		"same host":        {`{` + match + `,"handle":[` + relay + `]},{"match":[{"host":["b.example.com","a.example.com"]}],"handle":[{"handler":"static_response"}]}`, false},
		"other host":       {`{` + match + `,"handle":[` + relay + `]},{"match":[{"host":["b.example.com"]}],"handle":[{"handler":"static_response"}]}`, true},
		"any path":         {`{` + match + `,"handle":[` + relay + `]},{"match":[{"path":["/*"]}],"handle":[{"handler":"static_response"}]}`, false},
		"ends before":      {`{` + match + `,"handle":[` + relay + `]},{"terminal":true},{"handle":[{"handler":"static_response"}]}`, true},
		"in the same list": {`{"handle":[{"handler":"subroute","routes":[{` + match + `,"handle":[` + relay + `]}]},{"handler":"static_response"}],"terminal":true}`, false},
		"terminal":         {`{"handle":[{"handler":"subroute","routes":[{` + match + `,"handle":[` + relay + `]}]}],"terminal":true},{"handle":[{"handler":"static_response"}]}`, true},
		"group":            {`{"group":"g","handle":[{"handler":"subroute","routes":[{` + match + `,"handle":[` + relay + `]}]}]},{"group":"g","handle":[{"handler":"static_response"}]}`, true},
		"unknown before":   {`{"handle":[{"handler":"relay_test_probe"}]},{` + match + `,"handle":[` + relay + `]}`, true},
		"unknown handler":  {`{` + match + `,"handle":[` + relay + `]},{"handle":[{"handler":"relay_test_probe"}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			checkCatchAll(t, `{"apps":{"http":{"servers":{"srv0":{"listen":[":8080"],"routes":[`+c.routes+`]}}}}}`, c.warned)
		})
	}
}

// TestCatchAllFastCGI treats the routes of php_fastcgi as a catch-all, because they rewrite what is no file to index.php.
func TestCatchAllFastCGI(t *testing.T) {
	var routes caddyhttp.RouteList
	if err := json.Unmarshal([]byte(`[
		{"match":[{"path":["/callbacks/vocals"]}],"handle":[{"handler":"relay","source":"vocals"}]},
		{"match":[{"file":{"try_files":["{http.request.uri.path}","index.php"]}}],"handle":[{"handler":"rewrite","uri":"{http.matchers.file.relative}"}]},
		{"match":[{"path":["*.php"]}],"handle":[{"handler":"reverse_proxy","transport":{"protocol":"fastcgi"}}]}
	]`), &routes); err != nil {
		t.Fatal(err)
	}
	if got := uncaught(siteReader{}.routes(routes), nil, false); len(got) != 0 {
		t.Errorf("uncaught: %v", got)
	}
	if got := uncaught(siteReader{}.routes(routes[:2]), nil, false); len(got) != 1 || got[0].source != "vocals" {
		t.Errorf("uncaught without the proxy: %v", got)
	}
}

func checkCatchAll(t *testing.T, config string, warned bool) {
	t.Helper()
	lines := validated(t, config)
	if got := strings.Contains(lines, "no catch-all after relay"); got != warned {
		t.Errorf("warned %t, expected %t:\n%s", got, warned, lines)
	}
	if warned && (!strings.Contains(lines, `"source":"vocals"`) || !strings.Contains(lines, `"server":"srv0"`) || strings.Count(lines, "no catch-all") != 1) {
		t.Errorf("logged:\n%s", lines)
	}
}

// validated returns what is logged while a config is validated.
func validated(t *testing.T, config string) (lines string) {
	t.Helper()
	var cfg caddy.Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
		WriterRaw: json.RawMessage(`{"output":"relay_test"}`),
	}}}}
	before := len(logged())
	if err := caddy.Validate(&cfg); err != nil {
		t.Fatal(err)
	}
	return logged()[before:]
}
