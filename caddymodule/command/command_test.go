package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

// The gateway's side of these tests is a few lines of HTTP, where a real one would not do what is needed at the moment it is
// needed. The integration tests run the commands against real gateways.

// output holds what a command has written.
type output struct{ out, err string }

// execute runs `caddy relay` with arguments, without a terminal.
func execute(t *testing.T, ctx context.Context, stdin string, args ...string) (output, error) {
	t.Helper()
	cmd := &cobra.Command{Use: "relay", SilenceUsage: true, SilenceErrors: true}
	configure(cmd, func(context.Context, string, string, bool) error { return errors.New("not here") })
	var out, err bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&err)
	cmd.SetArgs(args)
	result := cmd.ExecuteContext(ctx)
	return output{out.String(), err.String()}, result
}

// serve starts an admin endpoint, and returns its address as a flag.
func serve(t *testing.T, routes map[string]http.HandlerFunc) string {
	t.Helper()
	mux := http.NewServeMux()
	for pattern, handler := range routes {
		mux.HandleFunc(pattern, handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return "--address=" + server.Listener.Addr().String()
}

func TestUnreachable(t *testing.T) {
	_, err := execute(t, t.Context(), "", "status", "--address=127.0.0.1:1")
	if err == nil || !strings.HasPrefix(err.Error(), "cannot reach Caddy's admin endpoint at 127.0.0.1:1: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestErrorsOfTheGateway(t *testing.T) {
	for answer, expected := range map[string]string{
		`{"error":"store_unavailable","message":"The store is not open: locked."}`: "The store is not open: locked.",
		`{"error":"host not allowed: x"}`:                                          "answers 503: host not allowed: x",
		`<html>`:                                                                   "503 Service Unavailable",
	} {
		address := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, answer)
		}})
		if out, err := execute(t, t.Context(), "", "events", address); err == nil || !strings.Contains(err.Error(), expected) || out.out != "" {
			t.Errorf("%s: error %v, output %q", answer, err, out.out)
		}
	}
	address := serve(t, nil) // a Caddy without the module
	if _, err := execute(t, t.Context(), "", "status", address); err == nil || !strings.Contains(err.Error(), "is it built with Caddy Relay") {
		t.Errorf("error %v", err)
	}
}

func TestWrongArguments(t *testing.T) {
	for line, expected := range map[string]string{
		"unknown":                       "unknown command",
		"show":                          "expected <id>, got 0",
		"status more":                   "expected no operands, got 1",
		"pause vocals":                  "expected <source> <destination>, got 1",
		"events --since yesterday":      "expected a duration such as",
		"events --since -2h":            "expected a duration such as",
		"events --limit 0":              "at least 1",
		"redrive":                       "nothing is selected",
		"redrive --all --source vocals": "not both",
		"discard --yes":                 "nothing is selected",
		"discard --source a --orphaned --since 1h": "--orphaned without",
		"replay":                                   "expected an id",
		"replay --source vocals":                   "besides --source",
		"replay ID --since 2h":                     "with an id",
		"replay --source a -d b -d c":              "one --destination",
		"replay --source a --since 1h --variant 1": "only with an id",
		"tail --forward localhost:3000":            "expected a URL",
		"send vocals --header token":               "expected name:value",
		"status --address localhost:2000-3000":     "expected one port",
	} {
		_, err := execute(t, t.Context(), "", append(strings.Fields(line), "--address=127.0.0.1:1")...)
		if line == "status --address localhost:2000-3000" {
			_, err = execute(t, t.Context(), "", strings.Fields(line)...)
		}
		if err == nil || !strings.Contains(err.Error(), expected) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// A list goes on over pages that are empty, asks for no more than is shown, and says so where there is more.
func TestPages(t *testing.T) {
	var asked []string
	address := serve(t, map[string]http.HandlerFunc{"GET /relay/events": func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		page := api.Events{Next: r.FormValue("cursor") + "x"}
		if len(asked)%2 == 0 {
			page.Events = []api.Event{{ID: fmt.Sprint("event-", len(asked))}}
		}
		_ = json.NewEncoder(w).Encode(page)
	}})
	out, err := execute(t, t.Context(), "", "events", address, "--limit=2", "--state=dead")
	expected := []string{"limit=2&state=dead", "cursor=x&limit=2&state=dead", "cursor=xx&limit=1&state=dead", "cursor=xxx&limit=1&state=dead"}
	if err != nil || !slices.Equal(asked, expected) {
		t.Errorf("asked %q, error %v", asked, err)
	}
	if strings.Count(out.out, "event-") != 2 || !strings.Contains(out.err, "There are more events") {
		t.Errorf("output %+v", out)
	}
	asked = nil
	out, err = execute(t, t.Context(), "", "events", address, "--limit=1", "--json")
	var page api.Events
	if err != nil || json.Unmarshal([]byte(out.out), &page) != nil || len(page.Events) != 1 || page.Next != "xx" || out.err != "" {
		t.Errorf("output %+v, error %v", out, err)
	}
}

func TestTimesOfFlags(t *testing.T) {
	f := &timeFlag{now: func() time.Time { return now }}
	for value, expected := range map[string]string{
		"2h": "2026-01-31T10:00:00Z", "3d": "2026-01-28T12:00:00Z", "2026-01-01T00:00:00+01:00": "2025-12-31T23:00:00Z",
	} {
		if err := f.Set(value); err != nil || f.String() != expected {
			t.Errorf("%s: %s, %v", value, f, err)
		}
	}
}

// Nothing is deleted without a yes, and what is asked names how much it is.
func TestConfirmation(t *testing.T) {
	discarded := 0
	address := serve(t, map[string]http.HandlerFunc{
		"GET /relay/status": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(api.Status{Destinations: []api.DestinationStatus{
				{Source: "vocals", Name: "billing", Counts: api.StateCounts{Dead: 1200}},
				{Source: "vocals", Name: "old", State: "orphaned", Counts: api.StateCounts{Dead: 1, Orphaned: 5}},
				{Source: "stems", Name: "billing", Counts: api.StateCounts{Dead: 7}},
			}})
		},
		"POST /relay/dead-letters/discard": func(w http.ResponseWriter, _ *http.Request) {
			discarded++
			_ = json.NewEncoder(w).Encode(api.Discarded{Discarded: 1206})
		},
	})
	_, err := execute(t, t.Context(), "y\n", "discard", "--source=vocals", "--orphaned", address)
	if err == nil || !strings.Contains(err.Error(), "Delete 1,201 dead letters and 5 orphaned deliveries for good?") || !strings.Contains(err.Error(), "--yes") || discarded != 0 {
		t.Errorf("without a terminal: %v, discarded %d times", err, discarded)
	}
	if out, err := execute(t, t.Context(), "", "discard", "--source=vocals", "--orphaned", "--yes", address); err != nil || out.out != "1,206 deliveries discarded.\n" || discarded != 1 {
		t.Errorf("with --yes: %q, %v", out.out, err)
	}
	for answer, expected := range map[string]error{"y\n": nil, "YES\n": nil, "\n": errNotConfirmed, "no\n": errNotConfirmed, "": errNotConfirmed} {
		var asked strings.Builder
		terminal := terminal{in: strings.NewReader(answer), err: &asked, askable: true}
		if err := terminal.confirm("Sure?"); !errors.Is(err, expected) || asked.String() != "Sure? [y/N] " {
			t.Errorf("%q: %v, asked %q", answer, err, &asked)
		}
	}
}

func TestFollow(t *testing.T) {
	for lines, expected := range map[string]string{
		"{\"progress\":500}\n{\"progress\":700}\n{\"redriven\":700}\n":              `{"redriven":700}`,
		"{\"progress\":500}\n{\"error\":\"internal\",\"message\":\"Disk full.\"}\n": "Disk full.",
		"{\"progress\":500}\n": "breaks off",
		"":                     "breaks off",
	} {
		var shown []int
		raw, err := follow(strings.NewReader(lines), func(done int) { shown = append(shown, done) })
		if err != nil && !strings.Contains(err.Error(), expected) || err == nil && string(raw) != expected {
			t.Errorf("%q: %s, %v", lines, raw, err)
		}
		if strings.Count(lines, "progress") != len(shown) {
			t.Errorf("%q: shown %v", lines, shown)
		}
	}
}

// clientOf returns a client of the gateway at an address.
func clientOf(t *testing.T, address string) *client {
	t.Helper()
	cmd := &cobra.Command{}
	cmd.Flags().String("address", strings.TrimPrefix(address, "--address="), "")
	cmd.Flags().String("config", "", "")
	cmd.Flags().String("adapter", "", "")
	c, err := newClient(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// writer is called with what is written.
type writer func(string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	address := serve(t, map[string]http.HandlerFunc{"GET /relay/status": func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error":"x","message":"Not now."}`)
			return
		}
		_ = json.NewEncoder(w).Encode(sampleStatus())
	}})
	client := clientOf(t, address)
	var out strings.Builder
	frames := 0
	c := &call{client: client, terminal: terminal{width: 80, out: writer(func(text string) {
		if out.WriteString(text); strings.HasPrefix(text, "SOURCE") {
			if frames++; frames == 2 {
				cancel()
			}
		}
	})}}
	if err := watchStatus(ctx, c, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "\x1b[H\x1b[2J") != 3 || !strings.Contains(out.String(), "Not now.\n") {
		t.Errorf("printed:\n%q", out.String())
	}
}

// Completion asks the gateway for names, and is silent where there is none.
func TestCompletion(t *testing.T) {
	address := serve(t, map[string]http.HandlerFunc{"GET /relay/status": func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(sampleStatus())
	}})
	for _, c := range []struct {
		args     []string
		expected string
	}{
		{[]string{"pause", address, ""}, "stems\nvocals\n:4\n"},
		{[]string{"pause", address, "stems", ""}, "library\n:4\n"},
		{[]string{"events", address, "--destination", ""}, "library\na-destination-with-a-long-name\n:4\n"},
		{[]string{"redrive", address, "--source", ""}, "stems\nvocals\n:4\n"},
		{[]string{"resume", "--address=127.0.0.1:1", ""}, ":4\n"},
	} {
		out, err := execute(t, t.Context(), "", append([]string{cobra.ShellCompNoDescRequestCmd}, c.args...)...)
		if err != nil || out.out != c.expected {
			t.Errorf("%v: %q, %v", c.args, out.out, err)
		}
	}
}

// A check that fails is an exit status for scripts, and advice is never cut.
func TestDoctor(t *testing.T) {
	doctor := api.Doctor{OK: true, Checks: []api.Check{
		{Name: "disk", State: api.CheckOK, Message: "12 GiB are free."},
		{Name: "source", Subject: "vocals", State: api.CheckWarning, Message: "It is open to everyone: " + strings.Repeat("limit it. ", 20)},
	}}
	address := serve(t, map[string]http.HandlerFunc{"GET /relay/doctor": func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(doctor)
	}})
	out, err := execute(t, t.Context(), "", "doctor", address)
	if err != nil || !strings.Contains(out.out, strings.TrimSpace(doctor.Checks[1].Message)) {
		t.Errorf("%v, printed:\n%s", err, out.out)
	}
	var narrow strings.Builder
	if err := writeDoctor(&narrow, 40, doctor.Checks[:1]); err != nil {
		t.Fatal(err)
	}
	want(t, narrow.String(), 40, "ok          disk\n            12 GiB are free.\n")
	doctor.OK = false
	doctor.Checks = append(doctor.Checks, api.Check{Name: "clock", State: api.CheckError, Message: "It is wrong."})
	for _, flag := range []string{"--json=false", "--json"} {
		if out, err := execute(t, t.Context(), "", "doctor", address, flag); err == nil || err.Error() != "1 check fails" || !strings.Contains(out.out, "It is wrong.") {
			t.Errorf("%s: %v, printed:\n%s", flag, err, out.out)
		}
	}
}

// Each command can be looked up by its name, with an example to begin from.
func TestHelp(t *testing.T) {
	relayHelp := func(args ...string) (string, error) {
		root, cmd := &cobra.Command{Use: "caddy", SilenceUsage: true, SilenceErrors: true}, &cobra.Command{Use: "relay"}
		configure(cmd, nil)
		root.AddCommand(cmd)
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(append([]string{"relay"}, args...))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	all, err := relayHelp("help")
	if plain, _ := relayHelp(); err != nil || all != plain {
		t.Errorf("error %v, printed:\n%s", err, all)
	}
	cmd := &cobra.Command{Use: "relay"}
	configure(cmd, nil)
	for _, c := range append(cmd.Commands(), acceptCommand()) {
		names := []string{"help", c.Name()}
		if c.Name() == "accept" {
			names = []string{"help", "rejections", "accept"}
		}
		got, err := relayHelp(names...)
		flag, _ := relayHelp(append(names[1:], "--help")...)
		if err != nil || got != flag || !strings.Contains(got, "Examples:\n  ") || !strings.Contains(got, "caddy relay "+strings.Join(names[1:], " ")) {
			t.Errorf("%v: %v, printed:\n%s", names, err, got)
		}
		for line := range strings.Lines(c.Long) {
			if len(line) > 85 {
				t.Errorf("%s: a line of %d characters: %s", c.Name(), len(line), line)
			}
		}
	}
	if _, err := relayHelp("help", "nothing"); err == nil || !strings.Contains(err.Error(), `no command "nothing"`) {
		t.Errorf("error %v", err)
	}
}
