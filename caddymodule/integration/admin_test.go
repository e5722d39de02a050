package integration

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The admin API's JSON, as scripts read it.
type (
	status struct {
		Store struct {
			Driver string `json:"driver"`
			Up     bool   `json:"up"`
			Error  string `json:"error"`
		} `json:"store"`
		Spool *struct {
			Up     bool `json:"up"`
			Events int  `json:"events"`
			Stuck  int  `json:"stuck"`
		} `json:"spool"`
		Nodes []struct {
			Name string `json:"name"`
			PID  int    `json:"pid"`
		} `json:"nodes"`
		Sources []struct {
			Name string `json:"name"`
			Open bool   `json:"open"`
		} `json:"sources"`
		Destinations []destination `json:"destinations"`
	}
	destination struct {
		Source string         `json:"source"`
		Name   string         `json:"name"`
		State  string         `json:"state"`
		Counts map[string]int `json:"counts"`
		Paused bool           `json:"paused"`

		OldestPendingSeconds float64 `json:"oldest_pending_seconds"`
		Breaker              struct {
			State    string `json:"state"`
			Failures int    `json:"failures"`
		} `json:"breaker"`
	}
	event struct {
		ID         string            `json:"id"`
		Source     string            `json:"source"`
		TaskID     string            `json:"task_id"`
		Stage      string            `json:"stage"`
		Code       any               `json:"code"`
		Origin     string            `json:"origin"`
		ReceivedAt time.Time         `json:"received_at"`
		State      string            `json:"state"`
		Duplicates int               `json:"duplicates"`
		Conflicts  int               `json:"conflicts"`
		Headers    map[string]string `json:"headers"`
		Payload    json.RawMessage   `json:"payload"`
		Variants   []json.RawMessage `json:"variants"`
		Files      []json.RawMessage `json:"files"`
		Deliveries []struct {
			Destination string `json:"destination"`
			State       string `json:"state"`
			Attempts    []struct {
				At         time.Time `json:"at"`
				DurationMS float64   `json:"duration_ms"`
				Status     int       `json:"status"`
				Error      string    `json:"error"`
				Response   string    `json:"response"`
			} `json:"attempts"`
		} `json:"deliveries"`
	}
	archivedFile struct {
		URL    string `json:"url"`
		Object string `json:"object"`
		SHA256 string `json:"sha256"`
	}
	deadLetter struct {
		EventID     string    `json:"event_id"`
		Source      string    `json:"source"`
		TaskID      string    `json:"task_id"`
		Destination string    `json:"destination"`
		Attempts    int       `json:"attempts"`
		LastStatus  int       `json:"last_status"`
		LastError   string    `json:"last_error"`
		DeadAt      time.Time `json:"dead_at"`
	}
)

// adminClient keeps no connections: each reload replaces the admin server, which then closes those it has.
var adminClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * patience}

// call asks the admin endpoint. The body is JSON, unless it is a string: a Caddyfile.
func (g *gateway) call(method, path string, body any) answer {
	g.t.Helper()
	contentType, payload := "application/json", []byte(nil)
	switch body := body.(type) {
	case nil:
	case string:
		contentType, payload = "text/caddyfile", []byte(body)
	default:
		var err error
		if payload, err = json.Marshal(body); err != nil {
			g.t.Fatal(err)
		}
	}
	req, err := http.NewRequest(method, "http://"+g.admin+path, bytes.NewReader(payload))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	a, err := send(adminClient, req)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

// get reads from the admin API into a value.
func (g *gateway) get(path string, into any) {
	g.t.Helper()
	g.decode(g.call(http.MethodGet, path, nil), into)
}

// do posts to the admin API, which must answer 200, and gives the numbers that it answers with.
func (g *gateway) do(path string, body any) map[string]int {
	g.t.Helper()
	a := g.call(http.MethodPost, path, body)
	numbers := map[string]int{}
	if strings.TrimSpace(a.body) == "" && a.status < 300 {
		return numbers
	}
	var fields map[string]any
	g.decode(a, &fields)
	for name, value := range fields {
		if n, ok := value.(float64); ok {
			numbers[name] = int(n)
		}
	}
	return numbers
}

func (g *gateway) decode(a answer, into any) {
	g.t.Helper()
	if a.status != http.StatusOK {
		g.t.Fatalf("the admin API answers %d: %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		g.t.Fatalf("%v in %s", err, a.body)
	}
}

// reload loads a new configuration into the gateway.
func (g *gateway) reload(site string) {
	g.t.Helper()
	if a := g.call(http.MethodPost, "/load", g.caddyfile(site)); a.status != http.StatusOK {
		g.t.Fatalf("the reload fails: %s", a.body)
	}
}

func (g *gateway) status() status {
	g.t.Helper()
	var s status
	g.get("/relay/status", &s)
	return s
}

// destination returns the status of a destination of the source vocals; zero if it is not listed.
func (g *gateway) destination(name string) destination {
	g.t.Helper()
	for _, d := range g.status().Destinations {
		if d.Source == "vocals" && d.Name == name {
			return d
		}
	}
	return destination{}
}

// settled reports whether nothing waits and nothing is in flight.
func (g *gateway) settled() bool {
	g.t.Helper()
	for _, d := range g.status().Destinations {
		for _, state := range []string{"pending", "in_flight", "held", "paused", "orphaned"} {
			if d.Counts[state] > 0 {
				return false
			}
		}
	}
	return true
}

func (g *gateway) event(id string) event {
	g.t.Helper()
	var e event
	g.get("/relay/events/"+id, &e)
	return e
}

// archived returns the event's files that are in the archive, by their URLs. Others are listed by these alone.
func (e event) archived() map[string]archivedFile {
	files := map[string]archivedFile{}
	for _, raw := range e.Files {
		var f archivedFile
		if json.Unmarshal(raw, &f) == nil {
			files[f.URL] = f
		}
	}
	return files
}

// list reads all pages of a list.
func list[T any](g *gateway, path, field string, query url.Values) []T {
	g.t.Helper()
	var all []T
	for {
		var page map[string]json.RawMessage
		g.get(path+"?"+query.Encode(), &page)
		var rows []T
		if err := json.Unmarshal(page[field], &rows); err != nil {
			g.t.Fatalf("%s of %s: %v", field, path, err)
		}
		all = append(all, rows...)
		var next string
		if raw := page["next"]; raw != nil {
			if err := json.Unmarshal(raw, &next); err != nil {
				g.t.Fatalf("the cursor of %s: %v", path, err)
			}
		}
		if next == "" {
			return all
		}
		query.Set("cursor", next)
	}
}

func (g *gateway) events(query url.Values) []event {
	g.t.Helper()
	return list[event](g, "/relay/events", "events", query)
}

func (g *gateway) deadLetters(query url.Values) []deadLetter {
	g.t.Helper()
	return list[deadLetter](g, "/relay/dead-letters", "dead_letters", query)
}
