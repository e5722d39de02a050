package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
)

const (
	// streamClocks is how far the clocks may differ by which a store that has several sequences counts.
	streamClocks = time.Second
	// streamEarly is how much earlier than it was stored an event may have got its id: a callback is stored within its
	// ack_within.
	streamEarly = relay.MaxAckWithin + time.Second
	// streamUnseen is how many of the newest events of a store with one sequence may be stored and not published yet.
	streamUnseen = 4096
)

// backlog emits what is stored of the events that came after one of them, in the order in which they were stored: so the id
// of each is a place in the list of all sources.
type backlog struct {
	engine  *Engine // whose lists wait while callbacks crowd
	filter  relay.EventFilter
	overlap time.Duration // between sequences; zero if the store has one for all
	emit    func([]*stream.Entry) error

	after  *relay.EventRecord // where to begin; nil if it is not stored
	known  bool               // which of the earlier events were published after that one: those of late, by id
	late   map[string]int64
	newest int64           // where to end: what is stored later comes live
	last   string          // the event that was emitted last, or that after which to begin
	seen   map[string]bool // the newest events that were emitted: they may come live, too
}

// overlap returns how far apart in a store that has several sequences events may be whose order is not known: of two sources,
// the event that was stored first may be published last. A step of a committer and what it reads afterwards take no longer
// than the store's timeout each.
func (e *Engine) overlap(store relay.Store) time.Duration {
	if !store.PerSource() {
		return 0
	}
	return 2*e.options.StoreTimeout + streamClocks
}

// begin looks up the event after which to begin.
func (b *backlog) begin(ctx context.Context, since string) error {
	id, err := ulid.ParseStrict(since)
	if err != nil {
		return ErrBadSince
	}
	b.last = since
	b.after, err = b.engine.Event(ctx, since)
	early := id.Timestamp().Add(-streamEarly)
	switch {
	case err == nil:
		b.filter.After = b.after.Seq
		if b.late, b.known = b.engine.hub.Overtaken(since, b.after.Seq); !b.known {
			b.filter.After -= b.overlap.Microseconds()
		}
		for _, seq := range b.late {
			b.filter.After = min(b.filter.After, seq-1)
		}
	case !errors.Is(err, relay.ErrNotFound):
		return err
	case b.overlap > 0: // it is past its retention, or another store's, and its sequence would have been a time
		b.filter.After = early.UnixMicro()
	default:
		b.filter.Since = early
	}
	b.newest, err = b.engine.newest(ctx, b.filter.Source)
	return err
}

// run emits the events, the oldest first.
func (b *backlog) run(ctx context.Context) error {
	b.filter.Oldest, b.filter.Limit = true, streamPage
	for {
		page, next, err := b.engine.Events(ctx, b.filter)
		if err != nil {
			return err
		}
		if n := slices.IndexFunc(page, func(rec relay.EventRecord) bool { return rec.Seq > b.newest }); n >= 0 {
			page, next = page[:n], ""
		}
		if err := b.pass(page); err != nil || next == "" {
			return err
		}
		b.filter.Cursor = next
	}
}

// pass emits a page.
func (b *backlog) pass(page []relay.EventRecord) error {
	unseen := max(streamUnseen, b.overlap.Microseconds())
	var items []*stream.Entry
	for i := range page {
		rec := &page[i]
		earlier := b.after != nil && rec.Seq <= b.after.Seq
		if earlier && !b.mayBeMissed(rec) {
			continue
		}
		if !earlier {
			b.last = rec.ID
		}
		if rec.Seq > b.newest-unseen {
			b.seen[rec.ID] = true
		}
		for _, item := range itemsOf(rec) {
			item.Earlier = earlier
			items = append(items, &stream.Entry{Item: item})
		}
	}
	if len(items) == 0 {
		return nil
	}
	return b.emit(items)
}

// mayBeMissed reports whether who has seen the event after which to begin may not have seen one that was stored before it.
func (b *backlog) mayBeMissed(rec *relay.EventRecord) bool {
	if b.known {
		_, late := b.late[rec.ID]
		return late
	}
	return rec.Sequence != b.after.Sequence
}

// itemsOf returns what is stored of an event as it would have come live.
func itemsOf(rec *relay.EventRecord) []stream.Item {
	items := []stream.Item{acceptedItem(&rec.Event)}
	for _, d := range rec.Deliveries {
		item := stream.Item{
			EventID: rec.ID, Source: rec.Source, TaskID: rec.TaskID,
			Destination: d.Destination, Attempt: d.Tries, At: d.DeadAt, Error: d.Reason,
		}
		switch {
		case d.State == relay.StateDelivered:
			item.Kind = stream.Delivered
		case d.State == relay.StateDead:
			item.Kind = stream.Dead
		case d.State == relay.StatePending && d.Tries > 0:
			item.Kind, item.RetryIn = stream.Retrying, d.NextAttempt
		default:
			continue
		}
		items = append(items, item)
	}
	return items
}
