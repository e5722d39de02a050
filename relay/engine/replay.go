package engine

import (
	"context"
	"errors"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// replayPage is how many events of a bulk replay are read at once.
const replayPage = 500

// ReplayAll replays the settled deliveries, delivered ones too, of all events of one source that a filter selects, oldest
// first and with the first body: perSecond of them a second, or all at once if that is zero. Where the filter names a
// destination, that is the only one that is replayed, and an event that has no delivery for it gets one, unless the
// destination's `when` does not want it: so a destination gets events that are older than itself. It skips what is not
// settled, what has nowhere to go, and what somebody else has replayed since this was asked for. A dry run only counts. What was
// replayed before an error stays so.
func (e *Engine) ReplayAll(ctx context.Context, f relay.EventFilter, perSecond float64, dry bool) (replayed, skipped int, err error) {
	store, err := e.Store()
	if err != nil {
		return 0, 0, err
	}
	if f.Destination != "" && e.settings.Load().Destination(f.Source, f.Destination) == nil {
		return 0, 0, notConfigured(f.Source, f.Destination)
	}
	r := &replaying{Engine: e, store: store, source: f.Source, only: f.Destination, dry: dry, asked: time.Now(), pace: pace(perSecond)}
	defer func() { e.lanes.Wake(f.Source) }()
	// What comes from now on has been seen by nobody. Times do not tell it apart: wall clocks differ, and may be set back.
	newest, err := e.newest(ctx, f.Source)
	if err != nil {
		return 0, 0, err
	}
	f.Destination, f.Oldest, f.Limit = "", true, replayPage
	for {
		events, next, err := e.Events(ctx, f)
		progressed(ctx, 0) // which tells a client of a page that has nothing to replay, too
		for i := range events {
			switch {
			case events[i].Seq > newest:
				next = ""
			case err == nil:
				err = r.add(ctx, &events[i])
			}
		}
		if f.Cursor = next; err == nil && next == "" {
			err = r.flush(ctx)
			return r.replayed, r.skipped, err
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return r.replayed, r.skipped, err
		}
	}
}

// newest returns the sequence of the newest event of a source; 0 where there is none.
func (e *Engine) newest(ctx context.Context, source string) (int64, error) {
	for f := (relay.EventFilter{Source: source, Limit: 1}); ; {
		events, next, err := e.Events(ctx, f)
		if err == nil && len(events) > 0 {
			return events[0].Seq, nil
		}
		if err != nil || next == "" {
			return 0, err
		}
		f.Cursor = next // the one that was there has gone meanwhile
	}
}

// replaying is one bulk replay.
type replaying struct {
	*Engine
	store        relay.Store
	source, only string // only one destination, if that is not empty
	dry          bool
	asked        time.Time
	pace         relay.Pace
	batch        []relay.DeliveryName
	placed       int // batched so far
	replayed     int
	skipped      int
}

// add batches the deliveries of an event that are to be replayed.
func (r *replaying) add(ctx context.Context, rec *relay.EventRecord) error {
	has := false
	for _, d := range rec.Deliveries {
		if r.only != "" && r.only != d.Destination {
			continue
		}
		has = true
		settled := d.State == relay.StateDelivered || d.State == relay.StateDead
		if !settled || r.settings.Load().Destination(r.source, d.Destination) == nil {
			r.skipped++
			continue
		}
		if err := r.put(ctx, rec.ID, d.Destination); err != nil {
			return err
		}
	}
	if has || r.only == "" {
		return nil
	}
	wanted, err := r.wants(ctx, rec.ID)
	if err != nil {
		return err
	}
	if !wanted {
		r.skipped++
		return nil
	}
	return r.put(ctx, rec.ID, r.only)
}

// wants reports whether the only destination wants an event that it never had. As at accept, one that cannot be decided is
// delivered.
func (r *replaying) wants(ctx context.Context, id string) (bool, error) {
	settings := r.settings.Load()
	d := settings.Destination(r.source, r.only)
	if d == nil {
		return false, nil // it has left the config meanwhile
	}
	if d.When == nil {
		return true, nil
	}
	rec, err := r.Event(ctx, id)
	if err != nil {
		if errors.Is(err, relay.ErrNotFound) {
			err = nil // it has been purged meanwhile
		}
		return false, err
	}
	src := settings.Sources[r.source]
	matched, err := d.When.Match(&relay.View{Event: &rec.Event, Format: src.Body})
	if err != nil && !r.dry {
		r.door.Unfiltered(src, d.Name, id, err)
	}
	return matched || err != nil, nil
}

func (r *replaying) put(ctx context.Context, id, destination string) error {
	r.batch = append(r.batch, relay.DeliveryName{EventID: id, Destination: destination})
	if len(r.batch) < relay.MaxTouched {
		return nil
	}
	return r.flush(ctx)
}

// flush replays what is batched.
func (r *replaying) flush(ctx context.Context) error {
	batch := r.batch
	r.batch = r.batch[:0]
	if len(batch) == 0 {
		return nil
	}
	if r.dry {
		r.replayed += len(batch)
		progressed(ctx, len(batch))
		return nil
	}
	r.pace.After, r.pace.Asked = time.Duration(r.placed)*r.pace.Every, time.Since(r.asked)
	r.placed += len(batch)
	start := time.Now()
	replayed, skipped, err := r.store.ReplayAll(ctx, r.source, batch, r.pace)
	r.observe("replay", start, err)
	r.replayed += replayed
	progressed(ctx, len(batch))
	if err == nil {
		r.skipped += skipped
	}
	return err
}
