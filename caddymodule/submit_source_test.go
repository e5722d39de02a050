package caddymodule

import (
	"strings"
	"testing"
)

// TestSubmitSource: the source must be defined, wherever in the HTTP app, and whichever handler comes first.
func TestSubmitSource(t *testing.T) {
	dataDir(t)
	submit := map[string]any{"handler": "relay_submit", "source": "vocals", "callback_url": "https://hooks.example.com"}
	source := handlerConfig(t, nil, nil)
	other := handlerConfig(t, map[string]any{"source": "other"}, nil)
	nested := map[string]any{"handler": "subroute", "routes": []any{map[string]any{"handle": []any{
		map[string]any{"handler": "subroute", "routes": []any{map[string]any{"handle": []any{source}}}},
	}}}}
	for name, c := range map[string]struct {
		handlers []map[string]any
		ok       bool
	}{
		"after": {[]map[string]any{source, submit}, true}, "before": {[]map[string]any{submit, source}, true},
		"nested": {[]map[string]any{submit, other, nested}, true}, "none": {[]map[string]any{other, submit}, false},
	} {
		err := validate(t, serverConfig(nil, c.handlers...))
		if c.ok && err != nil || !c.ok && (err == nil || !strings.Contains(err.Error(), "relay_submit vocals: no relay handler defines this source")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	delete(submit, "callback_url")
	if err := validate(t, serverConfig(nil, source, submit)); err == nil || !strings.Contains(err.Error(), "callback_url") {
		t.Errorf("no URL: %v", err)
	}
}
