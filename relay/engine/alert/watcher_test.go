package alert

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// times is a log of which only the times are kept.
type times struct {
	slog.Handler
	since time.Time
	lines []time.Duration
}

func (*times) Enabled(context.Context, slog.Level) bool { return true }

func (l *times) Handle(context.Context, slog.Record) error {
	l.lines = append(l.lines, time.Since(l.since))
	return nil
}

// Alerts that cannot be stored are tried every few seconds, and logged ever more rarely; after one that could be, the next is
// logged at once.
func TestTheLogOfAlertsThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &times{Handler: slog.DiscardHandler, since: time.Now()}
		settings := &relay.Settings{
			Sources: map[string]*relay.Source{relay.AlertSource: {Name: relay.AlertSource}},
			Alerts:  &relay.Alerts{Conditions: []relay.Condition{relay.ConditionBreakerOpen}, Every: time.Minute},
		}
		tries, failing := 0, true
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
				if tries++; failing {
					return Stored{}, errors.New("neither here nor there")
				}
				return Stored{ID: "1", Spooled: true}, nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		go w.Run(ctx)
		<-time.After(20*time.Minute + time.Second/2)
		failing = false
		<-time.After(10 * time.Second)
		failing, log.since = true, time.Now()
		stored := len(log.lines)
		<-time.After(2 * time.Minute)
		cancel()
		synctest.Wait()
		if tries < 400 {
			t.Errorf("it was tried %d times", tries)
		}
		var pauses []time.Duration
		for i, at := range log.lines[1:stored] {
			pauses = append(pauses, at-log.lines[i])
		}
		want := []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second}
		if log.lines[0] != 0 || !reflect.DeepEqual(pauses, want) {
			t.Errorf("lines came first after %s, then at pauses of %v, not %v", log.lines[0], pauses, want)
		}
		if again := log.lines[stored:]; len(again) == 0 || again[0] > time.Minute || again[1]-again[0] != 10*time.Second {
			t.Errorf("after one was stored, lines came after %v", again)
		}
	})
}
