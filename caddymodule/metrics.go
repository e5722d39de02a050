package caddymodule

import (
	"errors"

	"github.com/callbackrelay/caddy-relay/relay/engine/meter"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the process's: they live on through every reload, while each config has a registry of its own.
var metrics = meter.New()

// registerMetrics shows the metrics in a config's registry, where the admin router or the app may have shown them already.
func registerMetrics(registry *prometheus.Registry) error {
	if registry == nil {
		return nil // tests without a config
	}
	err := registry.Register(metrics)
	if known := (prometheus.AlreadyRegisteredError{}); errors.As(err, &known) && known.ExistingCollector == metrics {
		return nil
	}
	return err
}
