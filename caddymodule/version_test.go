package caddymodule

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	const path = "github.com/callbackrelay/caddy-relay"
	caddy := &debug.Module{Path: "caddy", Version: "(devel)"}
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"go install":    {&debug.BuildInfo{Main: debug.Module{Path: path, Version: "v0.1.0"}}, "v0.1.0"},
		"go build":      {&debug.BuildInfo{Main: debug.Module{Path: path, Version: "(devel)"}}, ""},
		"xcaddy":        {&debug.BuildInfo{Main: *caddy, Deps: []*debug.Module{caddy, {Path: path, Version: "v0.1.0"}}}, "v0.1.0"},
		"a folder":      {&debug.BuildInfo{Main: *caddy, Deps: []*debug.Module{{Path: path, Version: "v0.0.0", Replace: &debug.Module{Path: "/src", Version: "(devel)"}}}}, ""},
		"a fork":        {&debug.BuildInfo{Deps: []*debug.Module{{Path: path, Version: "v0.1.0", Replace: &debug.Module{Path: "fork", Version: "v0.2.0"}}}}, "v0.2.0"},
		"another build": {&debug.BuildInfo{Main: *caddy}, ""},
	} {
		if got := version(c.info, true); got != c.want {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
	if got := version(nil, false); got != "" {
		t.Errorf("without build info: %q", got)
	}
}
