package sweep

import (
	"context"
	"maps"

	"github.com/callbackrelay/caddy-relay/relay"
)

// recall shows when each source was called last before this process ran, so that a restart does not hide that one is silent.
func (s *Sweeper) recall(ctx context.Context, store relay.Store, settings *relay.Settings) {
	maps.DeleteFunc(s.recalled, func(name string, _ bool) bool { return settings.Sources[name] == nil })
	for name := range settings.Sources {
		if s.recalled[name] || name == relay.AlertSource {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, healthTimeout)
		at, err := relay.LastCallback(bounded, store, name)
		cancel()
		if err != nil {
			return // it is asked again
		}
		if s.recalled[name] = true; !at.IsZero() {
			s.params.Meter.CalledBefore(name, at)
		}
	}
}
