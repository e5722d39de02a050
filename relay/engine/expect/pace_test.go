package expect

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestPause(t *testing.T) {
	const every = 30 * time.Second
	for _, tc := range []struct {
		polls int
		kind  relay.VerdictKind
		every time.Duration
		want  time.Duration
	}{
		{1, relay.VerdictPending, every, every},
		{2, relay.VerdictPending, every, time.Minute},
		{5, relay.VerdictPending, every, 8 * time.Minute},
		{6, relay.VerdictPending, every, 15 * time.Minute},
		{1_000_000, relay.VerdictPending, every, 15 * time.Minute},
		{1, relay.VerdictAgain, every, time.Minute},
		{1, relay.VerdictRefused, every, 15 * time.Minute},
		{1, relay.VerdictRefused, time.Hour, time.Hour},
		{3, relay.VerdictPending, time.Hour, time.Hour},
		{1, relay.VerdictPending, 0, relay.DefaultRecoverEvery},
	} {
		if got := pause(tc.polls, tc.kind, tc.every); got < tc.want || got > tc.want*6/5 {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func TestSpacing(t *testing.T) {
	for again, want := range map[int]time.Duration{0: rate, 1: 2 * rate, 3: 8 * rate, 7: time.Minute, 1 << 40: time.Minute} {
		if got := spacing(again); got != want {
			t.Errorf("after %d: %v, want %v", again, got, want)
		}
	}
}
