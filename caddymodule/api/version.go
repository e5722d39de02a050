package api

import "runtime/debug"

// Version returns the version of this module in a binary, such as v0.1.0; dev for a build of a working copy, which has none.
// The arguments are those of debug.ReadBuildInfo.
func Version(info *debug.BuildInfo, ok bool) string {
	const path = "github.com/callbackrelay/caddy-relay"
	if !ok {
		return unversioned
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path != path {
			continue
		}
		if m.Replace != nil {
			m = m.Replace // a folder has no version, whatever is required
		}
		if m.Version != "(devel)" {
			return m.Version
		}
	}
	return unversioned
}

const unversioned = "dev"
