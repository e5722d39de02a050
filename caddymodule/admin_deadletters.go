package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine"

	"github.com/callbackrelay/caddy-relay/relay"
)

// statusTimeout is how long a store may take to say how it is.
const statusTimeout = 5 * time.Second

func status(e *engine.Engine, r *http.Request) (any, error) {
	if q := parseQuery(r); q.err != nil {
		return nil, q.err
	}
	ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
	defer cancel()
	return e.Status(ctx), nil
}

func listDeadLetters(e *engine.Engine, r *http.Request) (any, error) {
	q := parseQuery(r, "source", "destination", "since", "limit", "cursor")
	selection := relay.Selection{Source: q.text("source"), Destination: q.text("destination"), Since: q.time("since")}
	limit, cursor := q.limit(), q.text("cursor")
	if q.err != nil {
		return nil, q.err
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	letters, next, err := e.DeadLetters(r.Context(), selection, limit, cursor)
	if err != nil {
		return nil, err
	}
	for i := range letters {
		letters[i].DeadAt = letters[i].DeadAt.UTC()
	}
	return struct {
		DeadLetters []relay.DeadLetter `json:"dead_letters"`
		Next        string             `json:"next"`
	}{append([]relay.DeadLetter{}, letters...), next}, nil
}

// selection is the part of the body of redrive and discard that selects dead letters. All of them are selected by
// {"all":true} alone, never by leaving something out.
type selection struct {
	All         *bool   `json:"all"`
	Source      *string `json:"source"`
	Destination *string `json:"destination"`
	Since       *string `json:"since"`
	Until       *string `json:"until"`
}

func (s selection) parse() (parsed relay.Selection, err error) {
	narrowed := s.Source != nil || s.Destination != nil || s.Since != nil || s.Until != nil
	switch {
	case s.All != nil && !*s.All:
		return parsed, badRequest("all: expected true, or no such field.")
	case s.All != nil && narrowed:
		return parsed, badRequest("all: expected no source, destination, since or until with it.")
	case s.All == nil && !narrowed:
		return parsed, badRequest(`Nothing is selected: expected source, destination, since or until, or {"all":true} for all dead letters.`)
	}
	if parsed.Source, err = selectedName("source", s.Source); err != nil {
		return parsed, err
	}
	if parsed.Destination, err = selectedName("destination", s.Destination); err != nil {
		return parsed, err
	}
	if parsed.Since, err = selectedTime("since", s.Since); err != nil {
		return parsed, err
	}
	parsed.Until, err = selectedTime("until", s.Until)
	return parsed, err
}

// selectedName refuses what no source or destination can be named, above all an empty text, which would select every one.
func selectedName(field string, name *string) (string, error) {
	if name == nil {
		return "", nil
	}
	if err := checkName(*name); err != nil {
		return "", badRequest(field + ": " + err.Error() + ".")
	}
	return *name, nil
}

func selectedTime(field string, text *string) (time.Time, error) {
	if text == nil {
		return time.Time{}, nil
	}
	t, err := parseTime(field, *text)
	if err == nil && t.IsZero() { // an empty text, or the one time that means no bound
		err = badTime(field)
	}
	return t, err
}

func redrive(e *engine.Engine, r *http.Request) (any, error) {
	var request struct {
		selection
		Rate perSecond `json:"rate"`
	}
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	selection, err := request.parse()
	if err != nil {
		return nil, err
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	n, err := e.Redrive(r.Context(), selection, float64(request.Rate))
	if err != nil {
		return nil, err
	}
	return map[string]int{"redriven": n}, nil
}

func discard(e *engine.Engine, r *http.Request) (any, error) {
	var request struct {
		selection
		Orphaned bool `json:"orphaned"`
	}
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	selection, err := request.parse()
	if err != nil {
		return nil, err
	}
	selection.Orphaned = request.Orphaned
	if selection.Orphaned && (!selection.Since.IsZero() || !selection.Until.IsZero()) {
		return nil, badRequest("orphaned: expected neither since nor until with it, which select dead letters by when they were given up.")
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	n, err := e.Discard(r.Context(), selection)
	if err != nil {
		return nil, err
	}
	return map[string]int{"discarded": n}, nil
}

func pause(paused bool) endpoint {
	return func(e *engine.Engine, r *http.Request) (any, error) {
		var none struct{}
		if err := readRequest(r, &none, false); err != nil {
			return nil, err
		}
		if err := withStore(e); err != nil {
			return nil, err
		}
		source, name := r.PathValue("source"), r.PathValue("name")
		if err := e.Pause(r.Context(), source, name, paused); err != nil {
			return nil, err
		}
		return map[string]any{"source": source, "destination": name, "paused": paused}, nil
	}
}

// perSecond is a rate: a number of deliveries a second, or n/s, n/m or n/h as in a Caddyfile.
type perSecond float64

// UnmarshalJSON reads a number or a text.
func (p *perSecond) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		limit, err := parseRate(s)
		*p = perSecond(limit)
		return err
	}
	if err := json.Unmarshal(b, (*float64)(p)); err != nil {
		return err
	}
	if *p < 0 || *p > 0 && *p < 1./(24*60*60) {
		*p = 0
		return errors.New("rate: expected 0 for no limit, or at least one delivery a day")
	}
	return nil
}
