package api

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
		"go build":      {&debug.BuildInfo{Main: debug.Module{Path: path, Version: "(devel)"}}, "dev"},
		"xcaddy":        {&debug.BuildInfo{Main: *caddy, Deps: []*debug.Module{caddy, {Path: path, Version: "v0.1.0"}}}, "v0.1.0"},
		"a folder":      {&debug.BuildInfo{Main: *caddy, Deps: []*debug.Module{{Path: path, Version: "v0.0.0", Replace: &debug.Module{Path: "/src", Version: "(devel)"}}}}, "dev"},
		"a fork":        {&debug.BuildInfo{Deps: []*debug.Module{{Path: path, Version: "v0.1.0", Replace: &debug.Module{Path: "fork", Version: "v0.2.0"}}}}, "v0.2.0"},
		"another build": {&debug.BuildInfo{Main: *caddy}, "dev"},
	} {
		if got := Version(c.info, true); got != c.want {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
	if got := Version(nil, false); got != "dev" {
		t.Errorf("without build info: %q", got)
	}
}
