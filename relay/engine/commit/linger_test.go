package commit_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// slow is a store of which each step takes a time, and counts what it is given.
type slow struct {
	relay.Store
	takes  time.Duration
	shared bool
	steps  []int // the accepts of each
}

func (s *slow) PerSource() bool { return s.shared }

func (s *slow) Apply(_ context.Context, b *relay.Batch) {
	<-time.After(s.takes)
	s.steps = append(s.steps, len(b.Accepts))
	for _, a := range b.Accepts {
		a.Result = relay.Accepted
	}
}

func TestCallbacksShareTheNextStepWhereTheyCrowd(t *testing.T) {
	const takes = time.Millisecond
	for name, tc := range map[string]struct {
		first  int // callbacks of a step
		shared bool
		waited time.Duration // from its end until the one that comes just then is stored
	}{
		"few":                     {3, false, takes},
		"crowd":                   {40, false, takes + takes},
		"crowd on a shared store": {40, true, takes},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &slow{takes: takes, shared: tc.shared}
				cs := commit.New(commit.Params{
					Meter: meter.New(), Logger: func() *slog.Logger { return slog.New(slog.DiscardHandler) }, Stored: func(*relay.Accept) {},
				})
				cs.Run(store, idles{})
				accept := func() {
					a := &commit.Accepting{Accept: relay.Accept{Event: &relay.Event{Source: "vocals"}}, Done: make(chan struct{})}
					if err := cs.Of("vocals").Accept(a, time.Now().Add(time.Second)); err != nil {
						t.Error(err)
					}
				}
				go accept()
				<-time.After(takes / 2) // while that one is written, the others queue
				for range tc.first {
					go accept()
				}
				<-time.After(takes + takes/2)
				synctest.Wait() // their step is over
				begun := time.Now()
				accept()
				if took := time.Since(begun); took != tc.waited {
					t.Errorf("stored after %s, not %s, in steps of %v", took, tc.waited, store.steps)
				}
				<-time.After(time.Second)
				begun = time.Now()
				accept()
				if took := time.Since(begun); took != takes {
					t.Errorf("alone it was stored after %s, not %s", took, takes)
				}
				cs.Stop()
			})
		})
	}
}
