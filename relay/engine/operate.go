package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/intake"
)

// Event returns one event with its deliveries, attempts and variants.
func (e *Engine) Event(ctx context.Context, id string) (*relay.EventRecord, error) {
	store, err := e.Store()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	rec, err := store.Event(ctx, id)
	e.observe("event", start, err)
	return rec, err
}

// Events lists events, newest first.
func (e *Engine) Events(ctx context.Context, f relay.EventFilter) ([]relay.EventRecord, string, error) {
	store, err := e.Store()
	if err != nil {
		return nil, "", err
	}
	if err := e.nextPage(ctx, f.Cursor); err != nil {
		return nil, "", err
	}
	start := time.Now()
	events, next, err := store.Events(ctx, f)
	e.observe("events", start, err)
	return events, next, err
}

// DeadLetters lists deliveries given up, newest event first.
func (e *Engine) DeadLetters(ctx context.Context, s relay.Selection, limit int, cursor string) ([]relay.DeadLetter, string, error) {
	store, err := e.Store()
	if err != nil {
		return nil, "", err
	}
	if err := e.nextPage(ctx, cursor); err != nil {
		return nil, "", err
	}
	start := time.Now()
	letters, next, err := store.DeadLetters(ctx, s, limit, cursor)
	e.observe("dead_letters", start, err)
	return letters, next, err
}

// observe notes what reading, or working through what is stored, has taken.
func (e *Engine) observe(operation string, start time.Time, err error) {
	e.reading.used(start)
	e.meter.ObserveStore(operation, start, err)
}

// nextPage waits until a list may go on. It holds back nobody who begins one.
func (e *Engine) nextPage(ctx context.Context, cursor string) error {
	if cursor == "" {
		return nil
	}
	return e.reading.turn(ctx)
}

// Files returns the URLs that an event's payload names, by its source's provider, and how many there are: no more than
// intake.MaxFiles are returned.
func (e *Engine) Files(rec *relay.EventRecord) (files []string, total int) {
	src := e.settings.Load().Sources[rec.Source]
	if src == nil {
		return nil, 0
	}
	return intake.Files(src, rec.Body)
}

// Replay makes the settled deliveries of an event pending anew, with a fresh retry budget: of all destinations of its
// source if none is named, with the first body if variant is 0. It skips what is not settled. A name that is repeated counts once.
func (e *Engine) Replay(ctx context.Context, id string, destinations []string, variant int) (replayed, skipped int, err error) {
	store, err := e.Store()
	if err != nil {
		return 0, 0, err
	}
	rec, err := store.Event(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	destinations = slices.Compact(slices.Sorted(slices.Values(destinations)))
	s := e.settings.Load()
	for _, name := range destinations {
		if s.Destination(rec.Source, name) == nil {
			return 0, 0, notConfigured(rec.Source, name)
		}
	}
	if len(destinations) == 0 {
		for _, d := range rec.Deliveries {
			if s.Destination(rec.Source, d.Destination) != nil {
				destinations = append(destinations, d.Destination)
			} else {
				skipped++ // orphaned: there is nowhere to send it
			}
		}
	}
	if len(destinations) == 0 {
		return 0, skipped, nil
	}
	start := time.Now()
	replayed, n, err := store.Replay(ctx, id, destinations, variant)
	e.meter.ObserveStore("replay", start, err)
	e.lanes.Wake(rec.Source)
	return replayed, skipped + n, err
}

func notConfigured(source, destination string) error {
	return fmt.Errorf("destination %q of source %q: %w", destination, source, relay.ErrNotFound)
}

// Redrive replays all dead letters of the selection, each once, whoever asks: perSecond of them a second, or all at
// once if that is zero. What was redriven before an error stays so.
func (e *Engine) Redrive(ctx context.Context, s relay.Selection, perSecond float64) (int, error) {
	asked, pace, cursor := time.Now(), pace(perSecond), ""
	return e.bulk(ctx, "redrive", s.Source, func(store relay.Store, done int) (n int, more bool, err error) {
		pace.After, pace.Asked = time.Duration(done)*pace.Every, time.Since(asked)
		n, cursor, err = store.Redrive(ctx, s, pace, cursor)
		return n, cursor != "", err
	})
}

// pace spaces deliveries by a rate; 0 does not.
func pace(perSecond float64) (p relay.Pace) {
	if perSecond > 0 {
		p.Every = time.Duration(float64(time.Second) / perSecond)
	}
	return p
}

// ErrDrift is why nothing of an orphaned destination is deleted or handed over: another gateway may deliver it.
var ErrDrift = errors.New("gateways that share the store have different configs")

// checkDrift returns ErrDrift unless all gateways that live have the sources of s: each knows no more of another's config
// than its hash, and so cannot say that a destination is in none.
func checkDrift(ctx context.Context, store relay.Store, s *relay.Settings) error {
	shared, ok := store.(relay.SharedStore)
	if !ok {
		return nil
	}
	nodes, err := shared.LiveNodes(ctx)
	if err != nil {
		return err
	}
	own := s.Hash()
	for _, n := range nodes {
		if n.Config != own {
			return fmt.Errorf("%w, so that what is orphaned in this one's may be delivered by %s (process %d): "+
				"load the same config on all gateways, or stop that one, and try again", ErrDrift, n.Name, n.PID)
		}
	}
	return nil
}

// Discard deletes all dead letters of the selection, and with Orphaned the pending deliveries of those of its destinations
// that are in no config. It deletes nothing then while another gateway has another config. Errors: ErrDrift, and those of
// the store.
func (e *Engine) Discard(ctx context.Context, s relay.Selection) (int, error) {
	store, err := e.Store()
	if err != nil {
		return 0, err
	}
	if s.Orphaned {
		if err := checkDrift(ctx, store, e.settings.Load()); err != nil {
			return 0, err
		}
	}
	// What dies from now on has been seen by nobody. Times do not tell it apart: a wall clock may have been set back.
	most := math.MaxInt
	if _, shared := store.(relay.SharedStore); !shared {
		most = 0
		for _, c := range store.Counts() {
			if (s.Source == "" || s.Source == c.Source) && (s.Destination == "" || s.Destination == c.Destination) {
				most += int(c.Dead)
			}
		}
	}
	orphaned := s.Orphaned
	s.Orphaned = false
	done, err := e.discard(ctx, s, most)
	if err != nil || !orphaned {
		return done, err
	}
	for _, c := range store.Counts() {
		if s.Source != "" && s.Source != c.Source || s.Destination != "" && s.Destination != c.Destination ||
			c.Pending+c.InFlight == 0 || e.settings.Load().Destination(c.Source, c.Destination) != nil {
			continue
		}
		n, err := e.discard(ctx, relay.Selection{Source: c.Source, Destination: c.Destination, Orphaned: true}, math.MaxInt)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// discard discards the selection in steps, none of which begins once most are gone.
func (e *Engine) discard(ctx context.Context, s relay.Selection, most int) (int, error) {
	cursor := ""
	return e.bulk(ctx, "discard", s.Source, func(store relay.Store, done int) (n int, more bool, err error) {
		n, cursor, err = store.Discard(ctx, s, cursor)
		return n, cursor != "" && done+n < most, err
	})
}

// ErrConfigured is why the deliveries of a destination are not handed to another one: it is in the config, and gets more.
var ErrConfigured = errors.New("still in the config")

// Reassign hands the deliveries of a destination that has left the config to one that is in it, such as to its new name, unless
// another gateway has another config. What was moved before an error stays so. Errors: relay.ErrNotFound, ErrConfigured,
// ErrDrift, and those of the store.
func (e *Engine) Reassign(ctx context.Context, source, from, to string) (relay.Reassigned, error) {
	s := e.settings.Load()
	if s.Destination(source, to) == nil {
		return relay.Reassigned{}, notConfigured(source, to)
	}
	if s.Destination(source, from) != nil {
		return relay.Reassigned{}, fmt.Errorf("destination %q of source %q: %w", from, source, ErrConfigured)
	}
	store, err := e.Store()
	if err == nil {
		err = checkDrift(ctx, store, s)
	}
	if err != nil {
		return relay.Reassigned{}, err
	}
	left, cursor := 0, ""
	moved, err := e.bulk(ctx, "reassign", source, func(store relay.Store, _ int) (n int, more bool, err error) {
		var r relay.Reassigned
		r, cursor, err = store.Reassign(ctx, source, from, to, cursor)
		left += r.Left
		return r.Moved, cursor != "", err
	})
	if err == nil && moved+left == 0 {
		err = fmt.Errorf("deliveries of destination %q of source %q: %w", from, source, relay.ErrNotFound)
	}
	return relay.Reassigned{Moved: moved, Left: left}, err
}

// bulk repeats a bounded step until it finds no more, then wakes the lanes.
func (e *Engine) bulk(ctx context.Context, operation, source string, step func(store relay.Store, done int) (n int, more bool, err error)) (done int, err error) {
	store, err := e.Store()
	if err != nil {
		return 0, err
	}
	defer func() { e.lanes.Wake(source) }()
	for {
		start := time.Now()
		n, more, err := step(store, done)
		e.observe(operation, start, err)
		done += n
		progressed(ctx, n)
		if err == nil && more {
			err = e.reading.turn(ctx)
		}
		if err != nil || !more {
			return done, err
		}
	}
}

// Pause holds or releases a destination, lastingly.
func (e *Engine) Pause(ctx context.Context, source, destination string, paused bool) error {
	store, err := e.Store()
	if err != nil {
		return err
	}
	if e.settings.Load().Destination(source, destination) == nil {
		return notConfigured(source, destination)
	}
	e.pausing.Lock()
	defer e.pausing.Unlock()
	start := time.Now()
	err = store.Pause(ctx, source, destination, paused)
	e.meter.ObserveStore("pause", start, err)
	if err != nil {
		return err
	}
	if l := e.lanes.Get(relay.DestinationName{Source: source, Destination: destination}); l != nil {
		l.Pause(paused)
	}
	return nil
}
