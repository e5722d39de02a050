package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestWarnings looks for what a load has to warn of.
func TestWarnings(t *testing.T) {
	g := newGateway(t)
	t.Setenv("KEY", "whsec_bm90IGEgc2VjcmV0LCBhIHRlc3Qga2V5")
	kie := func(secret string) []any { return []any{map[string]any{"verifier": "kie", "secret": secret}} }
	sign := func(secret string) []any {
		return []any{map[string]any{"url": "https://billing.example.com", "sign": map[string]any{"secret": secret}}}
	}
	const (
		open    = "source is open"
		verify  = "a secret of verify is in the config"
		signed  = "a secret of sign is in the config"
		respond = "respond is not 200"
		query   = "use verify kie"
		header  = "request>headers>X-Token delete"
		asked   = "a secret of recover is in the config"
		asks    = "the query of recover, which may hold a token, is in the config"
		headed  = "a secret of header is in the config"
		queried = "the query of the URL, which may hold a token, is in the config"
		kept    = "a key of archive is in the config"
	)
	archive := func(access, secret string) map[string]any {
		return map[string]any{"allow": []string{"10.0.0.1"}, "archive": map[string]any{
			"storage": "s3", "bucket": "files", "endpoint": "s3.example.com", "access_key": access, "secret_key": secret,
		}}
	}
	token := func(place string, more ...any) []any {
		kind, name, _ := strings.Cut(place, " ")
		return append(more, map[string]any{"verifier": "token", "secret": "{env.KEY}", kind: name})
	}
	asking := func(key string) map[string]any {
		return map[string]any{"header": map[string]any{"Authorization": key, "Accept": "application/json"}}
	}
	provider := func(name string, secret ...string) map[string]any {
		config := map[string]any{"name": name}
		if len(secret) > 0 {
			config["secret"] = secret
		}
		return config
	}
	sent := func(query, key string) map[string]any {
		return map[string]any{"name": "billing", "url": "https://billing.example.com/" + query, "header": map[string]any{"Authorization": key, "Accept": "*/*"}}
	}
	to := func(query, key string) map[string]any {
		return map[string]any{"allow": []string{"10.0.0.1"}, "destinations": []any{sent(query, key)}}
	}
	for _, c := range []struct {
		fields   map[string]any
		expected string // empty: none of them
	}{
		{nil, open},
		{map[string]any{"allow": []string{"private_ranges"}}, ""},
		{map[string]any{"verify": kie("hunter2")}, verify},
		{map[string]any{"verify": kie("{env.KEY}")}, ""},
		{map[string]any{"provider": provider("kie")}, open},
		{map[string]any{"provider": provider("kie", "{env.KEY}", "hunter2")}, verify},
		{map[string]any{"provider": provider("kie", "{env.KEY}")}, ""},
		{map[string]any{"verify": token("query t"), "provider": provider("kie")}, query},
		{map[string]any{"verify": token("query t"), "provider": provider("kie", "{env.KEY}")}, ""},
		{map[string]any{"verify": token("query t", kie("{env.KEY}")...), "provider": provider("kie")}, ""},
		{map[string]any{"verify": token("query t"), "provider": provider("suno")}, ""},
		{map[string]any{"verify": token("query t")}, ""},
		{map[string]any{"verify": token("header x-token")}, header},
		{map[string]any{"verify": token("header authorization")}, ""},
		{map[string]any{"verify": token("body secret"), "provider": provider("kie")}, ""},
		{map[string]any{"allow": []string{"10.0.0.1"}, "destinations": sign("whsec_bm90IGEgc2VjcmV0LCBhIHRlc3Qga2V5")}, signed},
		{map[string]any{"allow": []string{"10.0.0.1"}, "destinations": sign("{env.KEY}")}, ""},
		{map[string]any{"allow": []string{"10.0.0.1"}, "respond": map[string]any{"status": 202}}, respond},
		{map[string]any{"allow": []string{"10.0.0.1"}, "recover": asking("Bearer hunter2")}, asked},
		{map[string]any{"allow": []string{"10.0.0.1"}, "recover": asking("Bearer {env.KEY}")}, ""},
		{map[string]any{"allow": []string{"10.0.0.1"}, "recover": map[string]any{"details": "https://api.example.com/?key=hunter2"}}, asks},
		{to("", "Bearer hunter2"), headed},
		{to("", "Bearer {env.KEY}"), ""},
		{to("?token=hunter2", "{env.KEY}"), queried},
		{to("{env.KEY}?token=hunter2", "{env.KEY}"), queried},
		{to("?v=1&token={env.KEY}", "{env.KEY}"), ""},
		{archive("{env.KEY}", "{env.KEY}"), ""},
		{archive("hunter2", "{env.KEY}"), kept},
		{archive("{env.KEY}", "hunter2"), kept},
	} {
		before := len(logged())
		g.mustLoad(`{}`, handlerConfig(t, c.fields, nil))
		lines := logged()[before:]
		for _, warning := range []string{open, verify, signed, respond, query, header, asked, asks, headed, queried, kept} {
			if strings.Contains(lines, warning) != (warning == c.expected) {
				t.Errorf("%v: expected %q and nothing else, got:\n%s", c.fields, c.expected, lines)
			}
		}
		if strings.Contains(lines, "hunter2") || strings.Contains(lines, "bm90IGEg") {
			t.Errorf("a secret was logged:\n%s", lines)
		}
	}
	for key, expected := range map[string]bool{"Bearer hunter2": true, "Bearer {env.KEY}": false} {
		alerts, err := json.Marshal(map[string]any{"alerts": map[string]any{"destinations": []any{sent("", key)}}})
		if err != nil {
			t.Fatal(err)
		}
		before := len(logged())
		g.mustLoad(string(alerts), handlerConfig(t, nil, nil))
		if lines := logged()[before:]; strings.Contains(lines, headed) != expected {
			t.Errorf("alerts with %q: expected a warning: %v, got:\n%s", key, expected, lines)
		}
	}
}
