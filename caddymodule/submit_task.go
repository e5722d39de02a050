package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// registerWithin is how long an answer waits at most for its task to be registered. A store that is away is given up sooner,
// and the spool takes the task.
const registerWithin = 5 * time.Second

// expecter registers tasks as expected.
type expecter interface {
	// Expect registers a task of a source that was submitted to api, durably. It ends no later than ctx.
	Expect(ctx context.Context, source *relay.Source, taskID, api string) error
}

// expect registers the task that an answer names, if it does. What fails changes nothing for the application: it has its task.
func (s *Submit) expect(ctx context.Context, source *relay.Source, api string, answer []byte) {
	count := metrics.Source(source.Name).CountSubmission
	reading, _ := source.Provider.Read(answer, nil, relay.ReadOptions{}) // it has what can be read
	if reading.Code != "200" || reading.ID == "" {
		count(meter.SubmissionWithoutTask)
		return
	}
	// The task exists, even if the application has hung up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), registerWithin)
	defer cancel()
	if err := s.tasks.Expect(ctx, source, reading.ID, api); err != nil {
		count(meter.SubmissionFailed)
		s.logger.Error("submitted task is not registered: nobody notices if its callback does not come; register it with `caddy relay expect`",
			"source", source.Name, "task_id", reading.ID, "api", api, "error", err)
		return
	}
	count(meter.SubmissionExpected)
}

// unread notes an answer that cannot be read.
func (s *Submit) unread(source *relay.Source) {
	metrics.Source(source.Name).CountSubmission(meter.SubmissionUnread)
	s.logger.Warn("answer to a submission is encoded, although it was asked not to be: a task that it names is not registered",
		"source", source.Name)
}

var errUnknownSource = errors.New("no relay handler defines this source; expected the name of one that does")

// submits notes that a relay_submit handler is about a source, and returns an error if no handler defines it. Those of the
// HTTP app that are provisioned already are registered, and the others still JSON; elsewhere, Start finds out.
func (a *App) submits(ctx caddy.Context, source string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.submitted[source] = true
	if _, ok := a.sources[source]; ok {
		return nil
	}
	for _, module := range ctx.Modules() {
		if http, ok := module.(*caddyhttp.App); ok && !definesSource(http, source) {
			return errUnknownSource
		}
	}
	return nil
}

// source returns a source of the config; nil if there is none of this name.
func (a *App) source(name string) *relay.Source {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sources[name].source
}

// definesSource reports whether a handler that is not provisioned yet defines a source.
func definesSource(app *caddyhttp.App, source string) bool {
	var routes []any
	for _, server := range app.Servers {
		routes = append(routes, server.Routes, server.NamedRoutes, server.Errors)
	}
	raw, err := json.Marshal(routes)
	var all any
	return err == nil && json.Unmarshal(raw, &all) == nil && holdsSource(all, source)
}

// holdsSource looks for a relay handler anywhere in a config.
func holdsSource(config any, source string) bool {
	switch v := config.(type) {
	case []any:
		for _, element := range v {
			if holdsSource(element, source) {
				return true
			}
		}
	case map[string]any:
		if v["handler"] == "relay" && v["source"] == source {
			return true
		}
		for _, member := range v {
			if holdsSource(member, source) {
				return true
			}
		}
	}
	return false
}
