package caddymodule

import (
	"math"
	"strconv"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
)

// slowest is the lowest rate that an operator can mean: one delivery a day.
const slowest = 1. / (24 * 60 * 60)

func parseSelection(s *api.Selection) (parsed relay.Selection, err error) {
	narrowed := s.Source != "" || s.Destination != "" || s.Since != "" || s.Until != ""
	switch {
	case bool(s.All) && narrowed:
		return parsed, badRequest("all: expected no source, destination, since or until with it.")
	case !bool(s.All) && !narrowed:
		return parsed, badRequest(`Nothing is selected: expected source, destination, since or until, or {"all":true} for all dead letters.`)
	}
	if err := checkNames(field{"source", s.Source}, field{"destination", s.Destination}); err != nil {
		return parsed, err
	}
	parsed.Source, parsed.Destination = s.Source, s.Destination
	if parsed.Since, err = selectedTime("since", s.Since); err != nil {
		return parsed, err
	}
	parsed.Until, err = selectedTime("until", s.Until)
	return parsed, err
}

// field is a field of a request with its text, which is empty where the request has no such field.
type field struct{ name, text string }

// checkNames refuses what no source or destination can be named.
func checkNames(fields ...field) error {
	for _, f := range fields {
		if f.text == "" {
			continue
		}
		if err := checkName(f.text); err != nil {
			return badRequest(f.name + ": " + err.Error() + ".")
		}
	}
	return nil
}

// selectedTime reads a time of a selection. It refuses the one time that means no bound.
func selectedTime(field, text string) (time.Time, error) {
	t, err := parseTime(field, text)
	if err == nil && text != "" && t.IsZero() {
		err = badTime(field)
	}
	return t, err
}

// parsePace returns a rate as deliveries a second; 0 is no limit.
func parsePace(r api.Rate) (float64, error) {
	if n, err := strconv.ParseFloat(string(r), 64); err == nil {
		if n != 0 && !(n >= slowest) || math.IsInf(n, 1) {
			return 0, badRequest("rate: expected 0 for no limit, or at least one delivery a day.")
		}
		return n, nil
	}
	limit, err := parseRate(string(r))
	if err != nil {
		return 0, badRequest("rate: " + err.Error() + ".")
	}
	return float64(limit), nil
}
