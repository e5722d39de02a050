package command

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// A dead letter that is given up while the question is read was not asked about, and stays.
func TestDiscardWhatWasCounted(t *testing.T) {
	clock := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC) // of the gateway
	var got api.DiscardRequest
	address := serve(t, map[string]http.HandlerFunc{
		"GET /relay/status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", clock.Format(http.TimeFormat))
			_ = json.NewEncoder(w).Encode(api.Status{Destinations: []api.DestinationStatus{
				{Source: "vocals", Name: "billing", Counts: api.StateCounts{Dead: 2}},
			}})
		},
		"GET /relay/dead-letters": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(api.DeadLetters{DeadLetters: []api.DeadLetter{{}}})
		},
		"POST /relay/dead-letters/discard": func(w http.ResponseWriter, r *http.Request) {
			got = api.DiscardRequest{}
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Error(err)
			}
			_ = json.NewEncoder(w).Encode(api.Discarded{Discarded: 1})
		},
	})
	const noon, eleven = "2026-01-31T12:00:00Z", "2026-01-31T11:00:00Z"
	for _, c := range []struct {
		name          string
		flags         selection
		orphaned, yes bool
		expected      api.DiscardRequest
	}{
		{"all", selection{all: true}, false, false, api.DiscardRequest{Selection: api.Selection{Until: noon}}},
		{"a source", selection{source: "vocals"}, false, false, api.DiscardRequest{Selection: api.Selection{Source: "vocals", Until: noon}}},
		{
			"until earlier",
			selection{until: &timeFlag{time: clock.Add(-time.Hour)}},
			false, false,
			api.DiscardRequest{Selection: api.Selection{Until: eleven}},
		},
		{
			"until later",
			selection{until: &timeFlag{time: clock.Add(time.Hour)}},
			false, false,
			api.DiscardRequest{Selection: api.Selection{Until: noon}},
		},
		{"all, unasked", selection{all: true}, false, true, api.DiscardRequest{Selection: api.Selection{All: true}}},
		{
			"orphaned",
			selection{source: "vocals"},
			true, false,
			api.DiscardRequest{Selection: api.Selection{Source: "vocals"}, Orphaned: true},
		},
	} {
		s := c.flags
		s.since = &timeFlag{}
		if s.until == nil {
			s.until = &timeFlag{}
		}
		if err := s.discard(t.Context(), answering(t, address, "y\n"), c.orphaned, c.yes); err != nil || got != c.expected {
			t.Errorf("%s: asked for %+v, expected %+v, error %v", c.name, got, c.expected, err)
		}
	}
}

// What cannot be counted is not deleted: the store may be opened between the count, which has nothing to ask about, and the request.
func TestDiscardBeforeTheStoreIsOpen(t *testing.T) {
	address := serve(t, map[string]http.HandlerFunc{
		"GET /relay/status": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(api.Status{Store: api.StoreStatus{Unread: true, Error: "it is still being opened"}})
		},
		"POST /relay/dead-letters/discard": func(http.ResponseWriter, *http.Request) { t.Error("the dead letters are gone") },
	})
	s := selection{all: true, since: &timeFlag{}, until: &timeFlag{}}
	err := s.discard(t.Context(), answering(t, address, ""), false, false)
	if err == nil || !strings.Contains(err.Error(), "it is still being opened") {
		t.Errorf("got %v", err)
	}
}

// answering returns a call to a gateway from a terminal where somebody answers questions.
func answering(t *testing.T, address, answers string) *call {
	t.Helper()
	cmd := discardCommand()
	cmd.Flags().String("address", "", "")
	cmd.Flags().String("config", "", "")
	cmd.Flags().String("adapter", "", "")
	if err := cmd.ParseFlags([]string{address}); err != nil {
		t.Fatal(err)
	}
	client, err := newClient(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.close)
	return &call{client, terminal{in: strings.NewReader(answers), out: t.Output(), err: t.Output(), askable: true}, false}
}
