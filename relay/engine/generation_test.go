package engine

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// While a reload may yet fail, nothing is given up or deleted by its settings.
func TestOnlyLastingSettingsSweep(t *testing.T) {
	e := New(Options{OpenStore: func(context.Context, *slog.Logger) (relay.Store, error) { return nil, relay.ErrClosed }})
	defer func() { _ = e.Close() }()
	settings := func(retention time.Duration) *relay.Settings { return &relay.Settings{Retention: retention} }
	check := func(when string, retention time.Duration, sure bool) {
		t.Helper()
		if s, is := e.lastingSettings(); s.Retention != retention || is != sure {
			t.Errorf("%s the retention is %v, and to stay: %v", when, s.Retention, is)
		}
	}
	check("at first", 0, false)
	before := e.Push(settings(time.Hour))
	check("after the start", time.Hour, true)
	failing := e.Push(settings(time.Minute))
	check("during a reload", time.Minute, false)
	failing.Withdraw()
	check("after it has failed", time.Hour, true)
	e.Push(settings(time.Minute))
	before.Withdraw()
	check("after one that has not", time.Minute, true)
}
