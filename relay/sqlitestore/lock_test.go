package sqlitestore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Whoever wants to write waits for another writer no longer than its context, and leaves everything as it was.
func TestWritersWaitNoLongerThanTheirContext(t *testing.T) {
	s := openTemporary(t)
	a, late := newAccept("one"), newAccept("two")
	s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
	must(t, a.Err)
	ctx, cancel := context.WithCancelCause(t.Context())
	impatient := errors.New("impatient")
	cancel(impatient)
	s.write.Lock()
	for name, call := range map[string]func() error{
		"apply": func() error {
			s.Apply(ctx, &relay.Batch{Accepts: []*relay.Accept{late}})
			return late.Err
		},
		"replay": func() error { _, _, err := s.Replay(ctx, a.Event.ID, nil, 0); return err },
		"replay all": func() error {
			_, _, err := s.ReplayAll(ctx, "vocals", []relay.DeliveryName{{EventID: a.Event.ID, Destination: "billing"}}, relay.Pace{})
			return err
		},
		"redrive": func() error {
			_, _, err := s.Redrive(ctx, relay.Selection{Source: "vocals"}, relay.Pace{}, "")
			return err
		},
		"discard":  func() error { _, _, err := s.Discard(ctx, relay.Selection{Source: "vocals"}, ""); return err },
		"reassign": func() error { _, _, err := s.Reassign(ctx, "vocals", "billing", "search", ""); return err },
		"pause":    func() error { return s.Pause(ctx, "vocals", "billing", true) },
		"expire":   func() error { _, err := s.Expire(ctx, "vocals", "billing", time.Hour); return err },
		"purge":    func() error { _, err := s.Purge(ctx, relay.PurgePolicy{Retention: time.Hour}); return err },
		"expect": func() error {
			return s.Expect(ctx, &relay.Expectation{ExpectedTask: relay.ExpectedTask{Source: "vocals", TaskID: "3"}})
		},
		"lease tasks": func() error {
			_, _, err := s.LeaseTasks(ctx, &relay.TaskLease{Source: "vocals", Max: 1, For: time.Minute})
			return err
		},
		"settle a task": func() error { return s.SettleTask(ctx, &relay.TaskSettle{Source: "vocals", TaskID: "3"}) },
	} {
		if err := call(); !errors.Is(err, relay.ErrUnavailable) || !errors.Is(err, impatient) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.write.Unlock()
	must(t, s.Pause(ctx, "vocals", "billing", true)) // for which nobody has to wait
	if c := s.Counts(); len(c) != 2 || c[0].Pending+c[0].InFlight+c[1].Pending+c[1].InFlight != 2 {
		t.Errorf("counts %+v", c)
	}
}
