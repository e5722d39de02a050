package caddymodule

import (
	"net/http"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine"
)

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
	page := api.DeadLetters{DeadLetters: make([]api.DeadLetter, len(letters)), Next: next}
	for i, letter := range letters {
		letter.DeadAt = letter.DeadAt.UTC()
		page.DeadLetters[i] = api.DeadLetter(letter)
	}
	return page, nil
}

func redrive(e *engine.Engine, r *http.Request) (any, error) {
	var request api.RedriveRequest
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	selection, err := parseSelection(&request.Selection)
	if err != nil {
		return nil, err
	}
	rate, err := parsePace(request.Rate)
	if err != nil {
		return nil, err
	}
	if err := withStore(e); err != nil {
		return nil, err
	}
	n, err := e.Redrive(r.Context(), selection, rate)
	if err != nil {
		return nil, err
	}
	return api.Redriven{Redriven: n}, nil
}

func discard(e *engine.Engine, r *http.Request) (any, error) {
	var request api.DiscardRequest
	if err := readRequest(r, &request, true); err != nil {
		return nil, err
	}
	selection, err := parseSelection(&request.Selection)
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
	return api.Discarded{Discarded: n}, nil
}
