package commit_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// ledger is a lane that keeps book of what it has handed out and got back, and panics once where it is told to.
type ledger struct {
	commit.Lane
	panics string

	slots   int // taken: those of accepts, and of attempts whose outcome is not stored
	leasing int // leases that were asked for and have not ended
	asked   int
}

func (l *ledger) mayPanic(at string) {
	if l.panics == at {
		l.panics = ""
		panic(at)
	}
}

func (l *ledger) Want(int) *relay.Lease {
	l.mayPanic("want")
	if l.leasing > 0 || l.asked > 3 {
		return nil
	}
	l.leasing++
	l.asked++
	return &relay.Lease{Source: "vocals", Max: 1, For: time.Minute}
}

func (l *ledger) Leased(*relay.Lease, time.Time) {
	l.leasing--
	l.mayPanic("leased")
}

func (l *ledger) Reserve(int) time.Duration {
	l.mayPanic("reserve")
	l.slots++
	return time.Minute
}

func (l *ledger) Accepted(reserved bool, leased *relay.Leased, _ bool, _ time.Time) {
	if reserved && leased == nil {
		l.slots--
	}
	l.mayPanic("accepted")
}

func (l *ledger) Settled(*commit.Settling) {
	l.slots--
	l.mayPanic("settled")
}

func (*ledger) Wake() {}

// steady is a store that stores everything, and leases nothing.
type steady struct {
	relay.Store
	panics *string
	stored int
}

func (s *steady) PerSource() bool {
	if *s.panics == "store" && s.stored > 0 {
		*s.panics = ""
		panic("store")
	}
	return false
}

func (s *steady) Apply(_ context.Context, b *relay.Batch) {
	for _, a := range b.Accepts {
		a.Result = relay.Accepted
		s.stored++
	}
}

// A panic anywhere in a step leaves no slot taken, no lane waiting for a lease, no outcome unwritten and nobody waiting.
func TestAPanicInAStepEndsIt(t *testing.T) {
	for _, at := range []string{"want", "reserve", "leased", "accepted", "settled", "stored", "store"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faulty, sound := &ledger{panics: at, slots: 2}, &ledger{slots: 2}
				store := &steady{panics: &faulty.panics}
				cs := commit.New(commit.Params{
					Meter: meter.New(), Logger: func() *slog.Logger { return slog.New(slog.DiscardHandler) },
					Stored: func(*relay.Accept) { faulty.mayPanic("stored") },
				})
				cs.Run(store, idles{})
				c := cs.Of("vocals")
				for _, l := range []*ledger{faulty, sound, faulty, sound} {
					leased := &relay.Leased{Event: &relay.Event{Source: "vocals"}}
					c.Settle(&commit.Settling{Settle: relay.Settle{Leased: leased, Outcome: relay.OutcomeDelivered}, Lane: l})
				}
				c.Feed(faulty)
				c.Feed(sound)
				for range 2 {
					go func() {
						err := c.Accept(&commit.Accepting{
							Accept: relay.Accept{Event: &relay.Event{Source: "vocals"}, Deliveries: make([]relay.NewDelivery, 2)},
							Lanes:  []commit.Lane{faulty, sound}, Done: make(chan struct{}),
						}, time.Now().Add(time.Hour))
						if err != nil && !errors.Is(err, relay.ErrUnavailable) {
							t.Error(err)
						}
					}()
				}
				<-time.After(5 * time.Second) // outcomes are tried again
				synctest.Wait()
				for name, l := range map[string]*ledger{"faulty": faulty, "sound": sound} {
					if l.slots != 0 || l.leasing != 0 || l.panics != "" {
						t.Errorf("%s: %d slots are taken, %d of %d leases have not ended, still to panic: %q", name, l.slots, l.leasing, l.asked, l.panics)
					}
				}
				if sound.asked == 0 {
					t.Error("the sound lane was not asked for a lease")
				}
				cs.Stop()
			})
		})
	}
}
