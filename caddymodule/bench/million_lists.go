package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// asked is how often each list is read, after once that is not measured.
const asked = 9

// read returns the body of an answer, which must be 200.
func read(address string) ([]byte, error) {
	resp, err := http.Get(address) //nolint:noctx // it ends with the gateway
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", address, resp.Status, body)
	}
	return body, err
}

// page is an answer with a list.
type page struct {
	Events []struct {
		ID     string `json:"id"`
		TaskID string `json:"task_id"`
	} `json:"events"`
	Letters    []json.RawMessage `json:"dead_letters"`
	Tasks      []json.RawMessage `json:"tasks"`
	Rejections []json.RawMessage `json:"rejections"`
	Next       string            `json:"next"`
}

func (p *page) rows() int { return len(p.Events) + len(p.Letters) + len(p.Tasks) + len(p.Rejections) }

func (m *many) page(path string) (p page, err error) {
	body, err := m.get(path)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(body, &p)
}

// lists measures each list, and with each filter.
func (m *many) lists() error {
	ago := func(hours float64) string {
		return url.QueryEscape(time.Now().Add(-time.Duration(hours * float64(time.Hour))).UTC().Format(time.RFC3339))
	}
	for range 100 {
		resp, err := http.Post("http://"+m.address+"/music", "application/json", strings.NewReader("{"))
		if err != nil {
			return err
		}
		resp.Body.Close()
	}
	middle, err := m.middle("/relay/events?limit=10&until=" + ago(36))
	if err != nil {
		return err
	}
	if err := m.list("an event", "/relay/events/"+middle.Events[0].ID); err != nil {
		return err
	}
	if err := m.list("events of a task", "/relay/events?task_id="+middle.Events[0].TaskID); err != nil {
		return err
	}
	for _, l := range []struct{ what, path string }{
		{"events", "events"},
		{"events, 500 a page", "events?limit=500"},
		{"events, a page of the middle", "events?cursor=" + url.QueryEscape(middle.Next)},
		{"events of a source", "events?source=music"},
		{"events of a source that has few", "events?source=rare"},
		{"events to a destination", "events?destination=gone"},
		{"events delivered", "events?state=delivered"},
		{"events pending", "events?state=pending"},
		{"events dead", "events?state=dead"},
		{"events dead of a destination", "events?source=failed&destination=gone&state=dead"},
		{"events since an hour ago", "events?since=" + ago(1)},
		{"events since 71 hours ago", "events?since=" + ago(71)},
		{"events until an hour ago", "events?until=" + ago(1)},
		{"events until 71 hours ago", "events?until=" + ago(71)},
		{"events of an hour in the middle", "events?since=" + ago(37) + "&until=" + ago(36)},
		{"events dead until 71 hours ago", "events?state=dead&until=" + ago(71)},
		{"events of a source that has few, until 36 hours ago", "events?source=rare&until=" + ago(36)},
		{"dead letters", "dead-letters"},
		{"dead letters, 500 a page", "dead-letters?limit=500"},
		{"dead letters of a destination", "dead-letters?source=failed&destination=gone"},
		{"dead letters since an hour from now", "dead-letters?since=" + ago(-1)},
		{"tasks", "tasks"},
		{"tasks expected", "tasks?state=expected"},
		{"tasks given up", "tasks?state=given_up"},
		{"rejections", "rejections"},
		{"status", "status"},
	} {
		if err := m.list(l.what, "/relay/"+l.path); err != nil {
			return err
		}
	}
	return nil
}

// goOn is how long a page with events is looked for: it may be empty and go on.
const goOn = 20 * time.Second

// middle returns the first page of a list that has events, or one of the newest if there is none within goOn.
func (m *many) middle(path string) (p page, err error) {
	begun := time.Now()
	for p, err = m.page(path); err == nil && len(p.Events) == 0 && p.Next != ""; {
		if time.Since(begun) > goOn {
			return m.page("/relay/events?limit=10")
		}
		p, err = m.page(path + "&cursor=" + url.QueryEscape(p.Next))
	}
	if err == nil && len(p.Events) == 0 {
		err = errors.New("no event of the middle")
	}
	return p, err
}

// list measures one list, and says how many rows its first page has.
func (m *many) list(what, path string) error {
	p, err := m.page(path)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range asked {
		start := time.Now()
		if _, err := m.get(path); err != nil {
			return err
		}
		took = append(took, time.Since(start))
	}
	rows := ""
	if n := p.rows(); n > 0 || p.Next != "" {
		rows = fmt.Sprintf(": %d rows", n)
		if p.Next != "" {
			rows += " and more"
		}
	}
	m.tell(what+rows, spread(took), "≤ 50 ms")
	return nil
}

// named are the files that a page of the dashboard names.
var named = regexp.MustCompile(`(?:src|href)="([^"#]+)"|from '\./([^']+)'`)

// dashboard measures all that a browser asks for to show the overview, and then the list of events, one after the other.
func (m *many) dashboard() error {
	var took []time.Duration
	requests := 0
	for range asked {
		start := time.Now()
		files, seen := []string{""}, map[string]bool{}
		for len(files) > 0 {
			file := files[0]
			files = files[1:]
			body, err := read("http://" + m.address + "/dash/" + file)
			if err != nil {
				return err
			}
			for _, n := range named.FindAllSubmatch(body, -1) {
				if name := string(bytes.Join(n[1:], nil)); !seen[name] && !strings.Contains(name, "//") {
					seen[name] = true
					files = append(files, name)
				}
			}
		}
		answers := []string{"access", "status", "status", "events"}
		for _, path := range answers {
			if _, err := read("http://" + m.address + "/dash/api/" + path); err != nil {
				return err
			}
		}
		took, requests = append(took, time.Since(start)), 1+len(seen)+len(answers)
	}
	m.tell(fmt.Sprintf("the dashboard's first view, %d requests", requests), spread(took), "")
	return nil
}

// spread returns the median of some times, and the worst.
func spread(took []time.Duration) string {
	return fmt.Sprintf("%s, worst %s", milliseconds(quantile(took, .5)), milliseconds(quantile(took, 1)))
}
