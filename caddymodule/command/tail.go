package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

func tailCommand() *cobra.Command {
	var source, since, to string
	cmd := &cobra.Command{
		Use:   "tail [--source <name>] [--since <event id>] [--forward <URL>]",
		Short: "Prints what happens as it happens, and brings events to a local URL",
		Long: `Prints what happens on the gateway that is asked as it happens: events that are
accepted, and deliveries that are made, retried or given up. It begins now, or
after the event that --since names, and goes on until interrupted. When the
gateway is restarted or reloaded, it connects anew and goes on after the last
event that it has seen.

With --forward each event that is accepted is also posted to a URL, such as that
of a consumer under development on this machine, as a destination would get it:
the same body byte for byte, Content-Type, webhook-id, webhook-timestamp,
Relay-Source, Relay-Task-Id and Relay-Attempt. It is not signed, since the secret
stays in the gateway. Each event is posted once, whatever the answer, and
redirects are not followed. The event's own deliveries go on beside it.`,
		Example: `  caddy relay tail
  caddy relay tail --source vocals --forward http://localhost:3000/callbacks
  caddy relay tail --since 01K2Q7ZJ0V3E8Y4M6T5R9W1XAB --json`,
		Args: operands(),
	}
	flags := cmd.Flags()
	flags.StringVarP(&source, "source", "s", "", "Only events of this source")
	flags.StringVar(&since, "since", "", "Begin after this event (default: now)")
	flags.StringVar(&to, "forward", "", "URL to post each new event to")
	completeNames(cmd)
	cmd.RunE = run(func(ctx context.Context, c *call, _ []string) error {
		t := &tail{call: c, source: source, since: since, pause: reconnectAfter}
		if to != "" {
			var err error
			if t.forwarder, err = newForwarder(c.client, to); err != nil {
				return err
			}
			defer t.forwarder.close()
		}
		return t.follow(ctx)
	})
	return cmd
}

// reconnectAfter is how long a tail waits before it connects anew.
const reconnectAfter = time.Second

// tail follows the stream of a gateway.
type tail struct {
	*call
	source    string
	since     string // the last event that was accepted
	begun     bool   // since has moved on from where the tail began
	pause     time.Duration
	forwarder *forwarder // nil without --forward

	seen   recently // events, printed or of before the beginning
	passed string   // the event that came last, if it is one of those
}

// follow prints the stream until the context ends. A gateway that goes away is waited for, but not one that was never there.
func (t *tail) follow(ctx context.Context) error {
	if t.since == "" {
		if err := t.beginNow(ctx); err != nil {
			return err
		}
	}
	for first := true; ; {
		connected, err := t.connect(ctx)
		select {
		case <-ctx.Done():
			return nil // interrupted
		default:
		}
		if !connected && (first || !t.mayPass(err)) {
			return err
		}
		if _, printed := errors.AsType[*outputError](err); printed {
			return err
		}
		if connected || first {
			if err := t.note("%s; connecting anew", printable(err.Error())); err != nil {
				return err
			}
		}
		first = false
		select {
		case <-time.After(t.pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// beginNow sets where the stream begins to the newest event, so that what is accepted while the connection is lost before
// the first event is not missed either.
func (t *tail) beginNow(ctx context.Context) error {
	q := url.Values{}
	set(q, "source", t.source)
	raw, err := t.list(ctx, api.PathEvents, "events", q, 1)
	page, err := decode[api.Events](raw, err)
	if err == nil && len(page.Events) > 0 {
		t.since = page.Events[0].ID
	}
	return err
}

// mayPass reports whether trying again may help: not where the gateway refuses what is asked.
func (t *tail) mayPass(err error) bool {
	e, answered := errors.AsType[*answeredError](err)
	return !answered || e.status >= http.StatusInternalServerError
}

// connect follows the stream over one connection. Its error is never nil.
func (t *tail) connect(ctx context.Context) (connected bool, err error) {
	q := url.Values{}
	set(q, "source", t.source)
	set(q, "since", t.since)
	res, err := t.send(ctx, t.answerWithin, http.MethodGet, api.PathStream, q, http.Header{"Accept": {"text/event-stream"}}, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	return true, readStream(res.Body, func(data []byte) error { return t.handle(ctx, data) })
}

// outputError is an error of writing what is printed, after which there is no use in going on.
type outputError struct{ error }

func (t *tail) handle(ctx context.Context, data []byte) error {
	e, err := decode[api.StreamEvent](data, nil)
	if err != nil {
		return err
	}
	if t.repeats(&e) {
		return nil
	}
	if t.asJSON {
		err = t.json(json.RawMessage(data))
	} else {
		err = t.printf("%s", streamLine(&e))
	}
	if err != nil {
		return &outputError{err}
	}
	if e.Type != api.StreamAccepted {
		return nil
	}
	if t.forwarder != nil {
		if err := t.note("%s", printable(t.forwarder.forward(ctx, &e))); err != nil {
			return &outputError{err}
		}
		if ctx.Err() != nil {
			return ctx.Err() // it may not have arrived
		}
	}
	t.seen.add(e.EventID)
	if !e.Earlier {
		t.since, t.begun = e.EventID, true
	}
	return nil
}

// repeats reports whether an event was printed before, or was stored before the one after which the tail began; and of a
// delivery, whether it is shown with such an event.
func (t *tail) repeats(e *api.StreamEvent) bool {
	if e.Type != api.StreamAccepted {
		return e.EventID == t.passed && (e.Earlier || e.At.IsZero())
	}
	t.passed = ""
	if e.Earlier && !t.begun || t.seen.has(e.EventID) {
		t.seen.add(e.EventID)
		t.passed = e.EventID
	}
	return t.passed != ""
}

func streamLine(e *api.StreamEvent) string {
	at := "earlier " // the store does not know when a delivery ended
	if !e.At.IsZero() {
		at = e.At.Local().Format(time.TimeOnly)
	}
	line := fmt.Sprintf("%s  %-9s  %s  %s", at, e.Type, e.EventID, e.Source)
	switch e.Type {
	case api.StreamAccepted:
		line += "  " + e.TaskID
		if e.Stage != "" {
			line += "  " + e.Stage
		}
	default:
		line += "  " + e.Destination + "  " + outcome(e.Status, e.Error)
		if e.DurationMS > 0 {
			line += fmt.Sprintf(" (%d ms)", e.DurationMS)
		}
		if !e.NextAttemptAt.IsZero() {
			line += ", attempt " + fmt.Sprint(e.Attempt+1) + " at " + e.NextAttemptAt.Local().Format(time.TimeOnly)
		}
	}
	return printable(line)
}
