package alert

import (
	"context"
	"encoding/json"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	readTimeout = 2 * time.Second
	adoptLast   = 500 // alerts that are looked at after a start
)

// history knows whether the alerts of earlier processes were looked at.
type history struct {
	done bool
	next time.Time // no look before
}

// adopt hands the machine the alerts that an earlier process left open, once the store is open.
func (h *history) adopt(ctx context.Context, store relay.Store, m *machine, now time.Time, every time.Duration) {
	if h.done || store == nil || now.Before(h.next) {
		return
	}
	h.next = now.Add(again)
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	alerts, err := relay.Newest(ctx, store, relay.EventFilter{Source: relay.AlertSource, Limit: adoptLast})
	if err != nil {
		return
	}
	seen := map[string]bool{}
	for i := range alerts {
		rec := &alerts[i]
		if seen[rec.TaskID] {
			continue
		}
		seen[rec.TaskID] = true
		if rec.Stage != string(Firing) {
			continue
		}
		whole, err := store.Event(ctx, rec.ID)
		if err != nil {
			return
		}
		var a Alert
		if json.Unmarshal(whole.Body, &a) == nil && a.Task() == rec.TaskID {
			m.adopt(Fact{a.Subject, a.Detail}, a.Since, rec.ID, now.Add(every))
		}
	}
	h.done = true
}

// newestAlert returns the newest alert of a task; an empty record if there is none.
func newestAlert(ctx context.Context, store relay.Store, task string) (relay.EventRecord, error) {
	if store == nil {
		return relay.EventRecord{}, relay.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	alerts, err := relay.Newest(ctx, store, relay.EventFilter{Source: relay.AlertSource, TaskID: task, Limit: 1})
	if err != nil || len(alerts) == 0 {
		return relay.EventRecord{}, err
	}
	return alerts[0], nil
}
