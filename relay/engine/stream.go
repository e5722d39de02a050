package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
)

const (
	streamPage  = 200 // events of a page of the replay, and items of a batch
	streamPing  = 15 * time.Second
	streamPause = 100 * time.Millisecond
	// streamOverlap is how much earlier than another source's event one may have come that was stored after it: a callback
	// is stored within its ack_within.
	streamOverlap = relay.MaxAckWithin + time.Second
)

// ErrBadSince is why a stream cannot begin after an event: its id is none.
var ErrBadSince = errors.New("not the id of an event")

// Stream passes on what happens to the events of a source, or of all sources where it is empty, until ctx ends, the
// engine stops, or emit fails. Unless since is empty it begins with the events that are in the store and came after the
// one of that id, each with what its deliveries have come to: so a client that reconnects misses nothing that is still
// stored, although it may get some of it twice. What comes live is of this node alone.
//
// emit gets the items in batches, and an empty batch from time to time, so that it notices when its client is gone. It
// may keep the caller waiting, but not the engine: a client that falls too far behind gets stream.ErrBehind. Other errors:
// relay.ErrNotFound for a source that is neither configured nor in the store, stream.ErrFull, ErrBadSince, relay.ErrClosed,
// and those of the store.
func (e *Engine) Stream(ctx context.Context, source, since string, emit func([]*stream.Entry) error) error {
	if source != "" && !e.knows(source) {
		return fmt.Errorf("source %q: %w", source, relay.ErrNotFound)
	}
	watcher, err := e.hub.Watch()
	if err != nil {
		return err
	}
	defer watcher.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.watching, func() { cancel(relay.ErrClosed) })()

	seen, err := e.catchUp(ctx, watcher, source, since, emit)
	if err != nil {
		return err
	}
	if err := emit(nil); err != nil { // from now on the client knows that it misses nothing
		return err
	}
	var items []*stream.Entry
	for {
		if items, err = e.await(ctx, watcher, items[:0]); err != nil {
			return err
		}
		full := len(items) == streamPage
		items = slices.DeleteFunc(items, func(i *stream.Entry) bool {
			return source != "" && i.Source != source || i.Kind == stream.Accepted && seen[i.EventID]
		})
		if err := emit(items); err != nil {
			return err
		}
		if !full { // else it has to catch up
			if err := rest(ctx, streamPause); err != nil { // many small writes cost more than few
				return err
			}
		}
	}
}

// knows reports whether a source is configured, or has deliveries in the store.
func (e *Engine) knows(source string) bool {
	if e.Source(source) != nil {
		return true
	}
	store, err := e.Store()
	return err != nil || slices.ContainsFunc(store.Counts(), func(c relay.Count) bool { return c.Source == source })
}

// await returns what comes next, or nothing after a while without anything.
func (e *Engine) await(ctx context.Context, w *stream.Watcher, items []*stream.Entry) ([]*stream.Entry, error) {
	bounded, cancel := context.WithTimeout(ctx, streamPing)
	defer cancel()
	items, err := w.Next(bounded, items, streamPage)
	switch {
	case ctx.Err() != nil:
		return items, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return items, nil
	}
	return items, err
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// catchUp emits what is stored, again if too much has happened meanwhile for the watcher to go on from there. It returns
// the newest events that it has emitted, which the watcher may see once more.
func (e *Engine) catchUp(ctx context.Context, w *stream.Watcher, source, since string, emit func([]*stream.Entry) error) (seen map[string]bool, err error) {
	for since != "" {
		w.Skip()
		store, err := e.Store()
		if err != nil {
			return nil, err
		}
		r := replay{engine: e, perSource: store.PerSource(), emit: emit, seen: map[string]bool{}}
		if err := r.begin(ctx, since); err != nil {
			return nil, err
		}
		sources := []string{source}
		if source == "" && r.perSource {
			sources = slices.Sorted(maps.Keys(e.settings.Load().Sources))
		}
		for _, s := range sources {
			if err := r.run(ctx, s); err != nil {
				return nil, err
			}
		}
		if !w.Behind() {
			return r.seen, nil
		}
		if r.last == "" {
			continue
		}
		since = r.last
	}
	return nil, nil
}

// replay emits what is stored of the events that came after one of them.
type replay struct {
	engine    *Engine // whose lists wait while callbacks crowd
	perSource bool    // the store keeps an order within a source alone
	emit      func([]*stream.Entry) error

	after *relay.Event // where to begin; nil if it is not stored
	from  time.Time    // where to begin in a list that does not hold it
	seen  map[string]bool
	last  string // the newest event that was emitted, by its id
}

// begin looks up the event after which to begin.
func (r *replay) begin(ctx context.Context, since string) error {
	id, err := ulid.ParseStrict(since)
	if err != nil {
		return ErrBadSince
	}
	r.from = id.Timestamp().Add(-streamOverlap)
	rec, err := r.engine.Event(ctx, since)
	switch {
	case errors.Is(err, relay.ErrNotFound): // it is past its retention, or another store's
	case err != nil:
		return err
	default:
		r.after = &rec.Event
	}
	return nil
}

// run emits the events of a list, the oldest first. Lists begin with the newest, so it remembers where their pages begin
// and reads them once more, from the last one on: the memory that this needs is that of a page, however many there are.
func (r *replay) run(ctx context.Context, source string) error {
	filter := relay.EventFilter{Source: source, Limit: streamPage}
	newest, next, err := r.engine.Events(ctx, filter) // a page that would begin elsewhere when it is read again
	if err != nil {
		return err
	}
	var cursors []string
	for page := newest; next != "" && !r.reached(page); {
		cursors = append(cursors, next)
		filter.Cursor = next
		if page, next, err = r.engine.Events(ctx, filter); err != nil {
			return err
		}
	}
	for _, cursor := range slices.Backward(cursors) {
		filter.Cursor = cursor
		page, _, err := r.engine.Events(ctx, filter)
		if err != nil {
			return err
		}
		if err := r.pass(page); err != nil {
			return err
		}
	}
	for _, rec := range newest {
		r.seen[rec.ID] = true
	}
	return r.pass(newest)
}

// reached reports whether what is behind a page came before the event after which to begin. Of those events whose order
// cannot be compared with that one's, the whole page must be older: one that was spooled is stored later than it came.
func (r *replay) reached(page []relay.EventRecord) bool {
	older := 0
	for i := range page {
		ordered, before := r.before(&page[i])
		if ordered && before {
			return true
		}
		if before {
			older++
		}
	}
	return older > 0 && older == len(page)
}

// before reports whether an event came before the one after which to begin, or is that one, and whether the store's own
// order says so.
func (r *replay) before(rec *relay.EventRecord) (ordered, before bool) {
	if r.after != nil && (!r.perSource || rec.Source == r.after.Source) {
		return true, rec.Seq <= r.after.Seq
	}
	return false, rec.ReceivedAt.Before(r.from)
}

// pass emits a page, the oldest event first.
func (r *replay) pass(page []relay.EventRecord) error {
	var items []*stream.Entry
	for i := range slices.Backward(page) {
		rec := &page[i]
		if _, before := r.before(rec); before {
			continue
		}
		items = append(items, &stream.Entry{Item: acceptedItem(&rec.Event)})
		r.last = rec.ID
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
			items = append(items, &stream.Entry{Item: item})
		}
	}
	if len(items) == 0 {
		return nil
	}
	return r.emit(items)
}

func acceptedItem(ev *relay.Event) stream.Item {
	return stream.Item{
		Kind: stream.Accepted, At: ev.ReceivedAt,
		EventID: ev.ID, Source: ev.Source, TaskID: ev.TaskID, Stage: ev.Stage, Code: ev.Code,
	}
}

// accepted publishes an event that was stored. A committer calls it in the store's order.
func (e *Engine) accepted(a *relay.Accept) {
	if a.Err == nil && a.Result == relay.Accepted && e.hub.Watched() {
		e.hub.Publish(acceptedItem(a.Event))
	}
}

// settled publishes what became of an attempt. Dead letters are published where all of them come by.
func (e *Engine) settled(s *relay.Settle, status int, reason string) {
	if !e.hub.Watched() {
		return
	}
	d := s.Leased
	i := stream.Item{
		At: time.Now(), EventID: d.Event.ID, Source: d.Event.Source, TaskID: d.Event.TaskID,
		Destination: d.Destination, Attempt: d.Tries + 1, Status: status, Error: reason, RetryIn: s.Delay,
	}
	if s.Attempt != nil {
		i.Duration = s.Attempt.Duration
	}
	switch s.Outcome {
	case relay.OutcomeDelivered:
		i.Kind, i.RetryIn = stream.Delivered, 0
	case relay.OutcomeRetry:
		i.Kind = stream.Retrying
	default:
		return
	}
	e.hub.Publish(i)
}

// drained is told of an accept that went from the spool to the store.
func (e *Engine) drained(a *relay.Accept) {
	e.lanes.WakeFor(a)
	e.accepted(a)
	intake.LogConflict(e.log(), a.Event, a.Result, a.FirstID, a.ConflictWith)
}

// died publishes a dead letter.
func (e *Engine) died(d relay.DeadLetter) {
	if !e.hub.Watched() {
		return
	}
	e.hub.Publish(stream.Item{
		Kind: stream.Dead, At: d.DeadAt, EventID: d.EventID, Source: d.Source, TaskID: d.TaskID,
		Destination: d.Destination, Attempt: d.Attempts, Status: d.LastStatus, Error: d.LastError,
	})
}
