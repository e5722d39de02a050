package alert

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// times is a log of which only the times are kept.
type times struct {
	slog.Handler
	lines chan time.Time
}

func (times) Enabled(context.Context, slog.Level) bool { return true }

func (l times) Handle(context.Context, slog.Record) error {
	l.lines <- time.Now()
	return nil
}

// pauses returns how long after the line before it each new line came, and the first one after that time.
func (l times) pauses(before time.Time) (pauses []time.Duration) {
	for len(l.lines) > 0 {
		at := <-l.lines
		pauses = append(pauses, at.Sub(before))
		before = at
	}
	return pauses
}

// Alerts that cannot be stored are tried every few seconds, and logged ever more rarely; after one that could be, the next is
// logged at once.
func TestTheLogOfAlertsThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := times{slog.DiscardHandler, make(chan time.Time, 100)}
		settings := &relay.Settings{
			Sources: map[string]*relay.Source{relay.AlertSource: {Name: relay.AlertSource}},
			Alerts:  &relay.Alerts{Conditions: []relay.Condition{relay.ConditionBreakerOpen}, Every: time.Minute},
		}
		var tries atomic.Int64
		var taken atomic.Bool
		w := New(Params{
			Settings: func() *relay.Settings { return settings },
			Logger:   func() *slog.Logger { return slog.New(log) },
			Observe: func(*relay.Settings) []Fact {
				other := held
				other.Destination = "other"
				return []Fact{held, other}
			},
			Store: func() (relay.Store, error) { return nil, relay.ErrUnavailable },
			Accept: func(context.Context, *relay.Source, *relay.Event) (Stored, error) {
				if tries.Add(1); taken.Load() {
					return Stored{ID: "1", Spooled: true}, nil
				}
				return Stored{}, errors.New("neither here nor there")
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		go w.Run(ctx)
		<-time.After(20*time.Minute + time.Second/2)
		synctest.Wait()
		s := time.Second
		if got, want := log.pauses(start), []time.Duration{0, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 320 * s}; !reflect.DeepEqual(got, want) {
			t.Errorf("lines came at pauses of %v, not %v", got, want)
		}
		if n := tries.Load(); n < 400 {
			t.Errorf("it was tried %d times", n)
		}
		taken.Store(true)
		<-time.After(10 * time.Second)
		synctest.Wait()
		taken.Store(false)
		start = time.Now()
		<-time.After(2 * time.Minute)
		cancel()
		synctest.Wait()
		if got := log.pauses(start); len(got) < 2 || got[0] > time.Minute || got[1] != 10*time.Second {
			t.Errorf("after one was stored, lines came at pauses of %v", got)
		}
	})
}
