package alert

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	// lookEvery is how often conditions are looked at. That is done in memory.
	lookEvery = time.Second
	// unstoredFirst is how long after the first line about alerts that cannot be stored the next one comes; the pauses double
	// up to unstoredLongest.
	unstoredFirst, unstoredLongest = 10 * time.Second, 10 * time.Minute
)

// Params are the dependencies of a watcher.
type Params struct {
	Settings func() *relay.Settings
	Logger   func() *slog.Logger // of the current settings; it never blocks
	// Observe returns which conditions of destinations, store and spool hold. It answers from memory.
	Observe func(*relay.Settings) []Fact
	Store   func() (relay.Store, error)
	// Accept stores an event as a callback of its source is stored, and sets its ID.
	Accept func(context.Context, *relay.Source, *relay.Event) (Stored, error)
}

// Stored describes how an alert was accepted.
type Stored struct {
	ID        string // of the event that has the key
	Duplicate bool   // another alert of the last `every` says the same
	Spooled   bool   // it is durable in the spool, and not yet in the store
}

// Watcher looks at conditions and sends alerts.
type Watcher struct {
	params  Params
	tally   Tally
	changed chan struct{} // capacity 1: other settings count now
	node    string

	// What follows belongs to Run.
	machine machine
	quiet   map[string]*quiet // by source
	history history
	telling time.Time     // when the next line about alerts that cannot be stored is due
	pause   time.Duration // after that; 0 while they can be stored
}

// New returns a watcher that does nothing before Run.
func New(p Params) *Watcher {
	host, _ := os.Hostname() // an empty name is as good as an error here
	return &Watcher{params: p, changed: make(chan struct{}, 1), node: host, quiet: map[string]*quiet{}}
}

// Count counts a callback by its result, one of relay.Results. It never waits.
func (w *Watcher) Count(source, result string) { w.tally.Count(source, result, time.Now()) }

// GaveUp counts an expected task that was given up. It never waits.
func (w *Watcher) GaveUp(source string) { w.tally.GaveUp(source, time.Now()) }

// GivenUp returns how many tasks of a source were given up, each within a while of the one before, and the last one within a
// while from now.
func (w *Watcher) GivenUp(source string, while time.Duration) int64 {
	return w.tally.of(source, time.Now(), while).givenUp.n
}

// Changed has the watcher look at once, since other settings count now. It never waits.
func (w *Watcher) Changed() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	for {
		var tick <-chan time.Time
		if s := w.params.Settings(); s.Alerts != nil && s.Sources[relay.AlertSource] != nil {
			err := guard.Step(func() error {
				w.look(ctx, s, time.Now())
				return nil
			})
			if err != nil {
				w.params.Logger().Error("alerts failed; trying again", "error", err, "stack", guard.Stack(err))
			}
			tick = time.After(lookEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
		case <-tick:
		}
	}
}

// look sends what is due.
func (w *Watcher) look(ctx context.Context, s *relay.Settings, now time.Time) {
	store, err := w.params.Store()
	if err != nil {
		store = nil
	}
	w.history.adopt(ctx, store, &w.machine, now, s.Alerts.Every)
	facts := slices.Concat(w.params.Observe(s), w.counted(s, now), w.silent(ctx, store, s, now))
	w.machine.observe(now, slices.DeleteFunc(facts, func(f Fact) bool {
		// Alerts about alerts would never end where it is their delivery that fails.
		return f.Source == relay.AlertSource || !slices.Contains(s.Alerts.Conditions, f.Condition)
	}))
	w.machine.hasten(now, s.Alerts.Every)
	for _, d := range w.machine.due(now) {
		if ctx.Err() != nil {
			return
		}
		w.send(ctx, store, s, &d, now)
	}
}

// counted returns the conditions that the tally has counted.
func (w *Watcher) counted(s *relay.Settings, now time.Time) (facts []Fact) {
	for name := range s.Sources {
		t := w.tally.of(name, now, s.Alerts.Every)
		if t.unverified >= unverifiedInRow {
			facts = append(facts, Fact{Subject{relay.ConditionUnverified, name, ""}, Detail{
				Reason: "callbacks fail verification one after the other; if the sender's secret has changed, mend it and accept those that were rejected",
				Count:  t.unverified,
			}})
		}
		if t.denied.n > 0 {
			facts = append(facts, Fact{Subject{relay.ConditionDenied, name, ""}, Detail{
				Reason: "callbacks from addresses that are not allowed are refused; if the sender has new ones, allow them and accept those that were rejected",
				Count:  t.denied.n,
			}})
		}
	}
	return facts
}

// send sends an alert, unless another node has.
func (w *Watcher) send(ctx context.Context, store relay.Store, s *relay.Settings, d *due, now time.Time) {
	open := d.open
	if d.state == Resolved && !d.spooled {
		newest, err := newestAlert(ctx, store, d.task)
		switch {
		case err != nil:
			w.machine.failed(now, d)
			return
		case newest.ID != "" && newest.ID != open: // past its retention it is gone
			w.machine.resolved(d.task) // another node has resolved it, or sees that it still holds
			return
		}
	}
	a := &Alert{Subject: d.fact.Subject, State: d.state, Detail: d.fact.Detail, Since: d.since.Round(0), Node: w.node}
	if d.state == Firing {
		explain(ctx, store, a)
	} else {
		a.Detail = Detail{Reason: "it is over"}
	}
	if s.Alerts.Dashboard != nil {
		a.Link = a.link(s.Alerts.Dashboard())
	}
	body, err := json.Marshal(a)
	if err != nil {
		w.params.Logger().Error("an alert cannot be written", "alert", d.task, "error", err)
		w.machine.failed(now, d)
		return
	}
	stored, err := w.params.Accept(ctx, s.Sources[relay.AlertSource], &relay.Event{
		Source: relay.AlertSource, TaskID: d.task, Stage: string(d.state), Origin: relay.OriginCallback,
		Key: keyOf(d.task, string(d.state), open), Fingerprint: keyOf(d.task), ReceivedAt: now, Body: body,
	})
	if err != nil {
		w.unstored(now, d, err)
		w.machine.failed(now, d)
		return
	}
	w.pause = 0
	every := s.Alerts.Every
	switch {
	case d.state == Resolved:
		w.machine.resolved(d.task)
	case !stored.Duplicate:
		w.machine.fired(now, d.task, stored.ID, stored.Spooled, every)
	default:
		if newest, err := newestAlert(ctx, store, d.task); err == nil && newest.Stage == string(Resolved) {
			w.machine.early(now, d.task, every)
		} else {
			w.machine.joined(now, d.task, stored.ID, every)
		}
	}
}

// unstored logs that an alert cannot be stored, from time to time: not once for each of them and each try.
func (w *Watcher) unstored(now time.Time, d *due, err error) {
	if w.pause > 0 && now.Before(w.telling) {
		return
	}
	w.pause = min(max(2*w.pause, unstoredFirst), unstoredLongest)
	w.telling = now.Add(w.pause)
	w.params.Logger().Warn("an alert cannot be stored; trying again", "alert", d.task, "state", string(d.state), "error", err)
}

// keyOf returns the SHA-256 of words.
func keyOf(words ...string) [32]byte {
	b, _ := json.Marshal(words) // strings always marshal
	return sha256.Sum256(b)
}
