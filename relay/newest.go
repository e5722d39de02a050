package relay

import (
	"context"
	"time"
)

// recentCallbacks is how many of a source's newest events are looked at for one that its sender brought.
const recentCallbacks = 20

// Newest returns the newest events that a filter selects, a page at most: a page may be empty and still have a next one.
func Newest(ctx context.Context, store Store, f EventFilter) ([]EventRecord, error) {
	for {
		events, next, err := store.Events(ctx, f)
		if err != nil || len(events) > 0 || next == "" {
			return events, err
		}
		f.Cursor = next
	}
}

// LastCallback returns when the newest callback of a source came that was stored; zero if none is found. What was recovered
// came just because no callback did.
func LastCallback(ctx context.Context, store Store, source string) (time.Time, error) {
	events, err := Newest(ctx, store, EventFilter{Source: source, Limit: recentCallbacks})
	if err != nil {
		return time.Time{}, err
	}
	for i := range events {
		if events[i].Origin == OriginCallback {
			return events[i].ReceivedAt, nil
		}
	}
	return time.Time{}, nil
}
