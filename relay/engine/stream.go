package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
	"github.com/callbackrelay/caddy-relay/relay/engine/stream"
)

const (
	streamPage  = 200 // events of a page of the backlog, and items of a batch
	streamPing  = 15 * time.Second
	streamPause = 100 * time.Millisecond
)

// ErrBadSince is why a stream cannot begin after an event: its id is none.
var ErrBadSince = errors.New("not the id of an event")

// Stream passes on what happens to the events of a source, or of all sources where it is empty, until ctx ends, the
// engine stops, or emit fails. Unless since is empty it begins with the events that are in the store and came after the
// one of that id, in the order in which they were stored, each with what its deliveries have come to: so a client that
// reconnects misses nothing that is still stored. Where the store has several sequences, events that were stored shortly
// before that one come too, marked as earlier, if they were published after it; if another process has published it, all of
// other sequences that may have been. What comes live is of this node alone.
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
		b := backlog{
			engine: e, filter: relay.EventFilter{Source: source}, overlap: e.overlap(store), emit: emit, seen: map[string]bool{},
		}
		if err := b.begin(ctx, since); err != nil {
			return nil, err
		}
		if err := b.run(ctx); err != nil {
			return nil, err
		}
		if !w.Behind() {
			return b.seen, nil
		}
		since = b.last
	}
	return nil, nil
}

func acceptedItem(ev *relay.Event) stream.Item {
	return stream.Item{
		Kind: stream.Accepted, At: ev.ReceivedAt,
		EventID: ev.ID, Source: ev.Source, TaskID: ev.TaskID, Stage: ev.Stage, Code: ev.Code, Seq: ev.Seq,
	}
}

// accepted publishes an event that was stored. A committer calls it in the store's order.
func (e *Engine) accepted(a *relay.Accept) {
	if a.Err == nil && a.Result == relay.Accepted && (e.hub.Watched() || e.hub.Remembers()) {
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
