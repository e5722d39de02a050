package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/alert"
	"github.com/callbackrelay/caddy-relay/relay/provider"
)

// Alerts sets who is alerted of what. Alerts are events of the built-in source `relay`, stored, retried and shown like any
// other; of several gateways on one Redis the first one's alert is the only one.
type Alerts struct {
	// What alerts are about: dead_letter, breaker_open, unverified, denied, silent, overdue, store, spool. Default: all of them.
	On []string `json:"on,omitempty"`

	// How long a source that was called before may not be called until it is silent. Default: 24h.
	SilentAfter Duration `json:"silent_after,omitempty"`

	// There is at most one alert of a condition, source and destination in this time. Default: 15m.
	Every Duration `json:"every,omitempty"`

	// Where alerts go: at least one.
	Destinations []*AlertDestination `json:"destinations,omitempty"`
}

// AlertDestination is a destination of alerts.
type AlertDestination struct {
	Destination

	// The body: `json`, the alert, or `slack`, `{"text":"…"}` for Slack and what is compatible with it. Default: json.
	Format string `json:"format,omitempty"`
}

const formatSlack = "slack"

var alertFormats = []string{"json", formatSlack}

var errArchivedAlert = errors.New("body archived: alerts have no archive; expected body original")

// destinations returns what alerts have in common with sources.
func (a *Alerts) destinations() (list []*Destination) {
	for _, d := range a.Destinations {
		if d == nil {
			list = append(list, nil) // null, in JSON
		} else {
			list = append(list, &d.Destination)
		}
	}
	return list
}

// build returns the settings of alerts, and their source.
func (a *Alerts) build(ctx caddy.Context) (*relay.Alerts, *relay.Source, error) {
	settings := &relay.Alerts{
		SilentAfter: a.SilentAfter.or(relay.DefaultSilentAfter), Every: a.Every.or(relay.DefaultAlertEvery),
	}
	if err := checkPositive(settings.SilentAfter); err != nil {
		return nil, nil, fmt.Errorf("silent_after: %w", err)
	}
	if err := checkPositive(settings.Every); err != nil {
		return nil, nil, fmt.Errorf("every: %w", err)
	}
	var err error
	if settings.Conditions, err = parseConditions(a.On); err != nil {
		return nil, nil, fmt.Errorf("on: %w", err)
	}
	src := &relay.Source{
		Name: relay.AlertSource, Dedupe: relay.DefaultDedupe, DedupeWindow: settings.Every,
		MaxBody: relay.DefaultMaxBody, AckWithin: relay.DefaultAckWithin, Logger: ctx.Slogger(),
	}
	// It reads the samples that an operator sends to try the destinations.
	if src.Provider, err = provider.Custom(provider.Paths{TaskID: []string{"task_id"}, Stage: []string{"state"}}); err != nil {
		return nil, nil, err
	}
	if src.Response, err = (*Response)(nil).build(); err != nil {
		return nil, nil, err
	}
	list := a.destinations()
	if src.Destinations, err = buildDestinations(ctx, list); err != nil {
		return nil, nil, err
	}
	for i, d := range a.Destinations {
		if d.Body == bodyArchived {
			return nil, nil, fmt.Errorf("destination %s: %w", d.label(i), errArchivedAlert)
		}
		if err := checkWord(d.Format, alertFormats...); err != nil {
			return nil, nil, fmt.Errorf("destination %s: format: %w", d.label(i), err)
		}
		if d.Format == formatSlack {
			src.Destinations[i].Rewrite = alert.Slack
		}
	}
	warnOfLiteralSecrets(src.Logger, list, src.Destinations)
	return settings, src, nil
}

// parseConditions reads the names of conditions; none means all.
func parseConditions(list []string) ([]relay.Condition, error) {
	if len(list) == 0 {
		return relay.Conditions, nil
	}
	var conditions []relay.Condition
	for _, s := range list {
		c := relay.Condition(s)
		if !slices.Contains(relay.Conditions, c) {
			return nil, fmt.Errorf("expected %s, got %q", conditionNames(", "), s)
		}
		if slices.Contains(conditions, c) {
			return nil, fmt.Errorf("%s is repeated", s)
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}

func conditionNames(separator string) string {
	names := make([]string, len(relay.Conditions))
	for i, c := range relay.Conditions {
		names[i] = string(c)
	}
	return strings.Join(names, separator)
}

// unmarshalBlock reads the block of `alerts`, whose name is the current token.
func (a *Alerts) unmarshalBlock(d *caddyfile.Dispenser) error {
	start := here(d)
	if _, err := arguments(d, "alerts { ... }", 0, 0); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := a.subdirective(d); err != nil {
			return err
		}
	}
	if len(a.Destinations) == 0 {
		return start.errf("alerts: %w", errNoDestination)
	}
	return nil
}

func (a *Alerts) subdirective(d *caddyfile.Dispenser) error {
	switch name := d.Val(); name {
	case "on":
		return setList(d, "on "+conditionNames("|")+"...", &a.On, func(list []string) error {
			_, err := parseConditions(list)
			return err
		})
	case "silent_after":
		return setDuration(d, name, &a.SilentAfter)
	case "every":
		return setDuration(d, name, &a.Every)
	case "to":
		to, err := parseTo(d, a.destinations())
		if err != nil {
			return err
		}
		added := &AlertDestination{Destination: *to}
		a.Destinations = append(a.Destinations, added)
		return added.unmarshalBlock(d)
	}
	return errUnknown(d, "on, silent_after, every or to")
}

// unmarshalBlock reads the block of a `to` subdirective of alerts.
func (to *AlertDestination) unmarshalBlock(d *caddyfile.Dispenser) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		var err error
		if name := d.Val(); name == "format" {
			err = setWord(d, name, &to.Format, alertFormats...)
		} else {
			err = to.subdirective(d, "format, "+destinationOptions)
		}
		if err != nil {
			return err
		}
		if to.Body == bodyArchived {
			return d.Errf("%w", errArchivedAlert)
		}
	}
	return nil
}
