package alert

import (
	"context"
	"fmt"
	"net/url"

	"github.com/callbackrelay/caddy-relay/relay"
)

// explain adds an example to an alert about a destination: what was given up last, or what waits and why. Without the store
// the alert goes out as it is.
func explain(ctx context.Context, store relay.Store, a *Alert) {
	if store == nil || a.Destination == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	switch a.Condition {
	case relay.ConditionDeadLetter:
		letters, _, err := store.DeadLetters(ctx, relay.Selection{Source: a.Source, Destination: a.Destination}, 1, "")
		if err == nil && len(letters) > 0 {
			d := &letters[0]
			a.EventID, a.TaskID = d.EventID, d.TaskID
			a.Reason += because(d.LastStatus, d.LastError)
		}
	case relay.ConditionBreakerOpen:
		waiting, _, err := store.Events(ctx, relay.EventFilter{
			Source: a.Source, Destination: a.Destination, State: relay.StatePending, Limit: 1,
		})
		if err != nil || len(waiting) == 0 {
			return
		}
		rec, err := store.Event(ctx, waiting[0].ID)
		if err != nil {
			return
		}
		a.EventID, a.TaskID = rec.ID, rec.TaskID
		for i := range rec.Deliveries {
			d := &rec.Deliveries[i]
			if n := len(d.Attempts); d.Destination == a.Destination && n > 0 {
				a.Reason += because(d.Attempts[n-1].Status, d.Attempts[n-1].Error)
			}
		}
	}
}

// because returns how an attempt failed, as the end of a sentence.
func because(status int, text string) string {
	switch {
	case text != "":
		return "; the last error: " + text
	case status != 0:
		return fmt.Sprintf("; the last answer: status %d", status)
	}
	return ""
}

// link returns the page of the dashboard that shows the subject; empty without a dashboard.
func (s Subject) link(dashboard string) string {
	if dashboard == "" {
		return ""
	}
	page, query := "", url.Values{}
	switch s.Condition {
	case relay.ConditionDeadLetter:
		page = "dead-letters"
		query.Set("destination", s.Destination)
	case relay.ConditionBreakerOpen:
		page = "destinations"
	case relay.ConditionUnverified, relay.ConditionDenied:
		page = "rejections"
	case relay.ConditionSilent:
		page = "events"
	case relay.ConditionOverdue:
		page = "tasks"
	}
	if page == "" {
		return dashboard
	}
	query.Set("source", s.Source)
	return dashboard + "#/" + page + "?" + query.Encode()
}
