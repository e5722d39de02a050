package commit_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
)

// away is a store that stores no outcome while down is set.
type away struct {
	relay.Store
	down *atomic.Bool
}

func (away) PerSource() bool { return true }

func (s away) Apply(_ context.Context, b *relay.Batch) {
	for _, settle := range b.Settles {
		if s.down.Load() {
			settle.Err = relay.ErrUnavailable
		}
	}
}

// However many outcomes wait for a store that is away, the log says so at growing intervals, and once when they are stored.
func TestTheLogOfOutcomesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		cs := commit.New(commit.Params{Meter: meter.New(), Logger: func() *slog.Logger { return logger }, Stored: func(*relay.Accept) {}})
		var down atomic.Bool
		down.Store(true)
		cs.Run(away{down: &down}, idles{})
		settle := func(n int) {
			l := &relay.Leased{Event: &relay.Event{ID: fmt.Sprint(n), Source: "vocals"}, Destination: "billing"}
			cs.Of("vocals").Settle(&commit.Settling{Settle: relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered}})
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var lines []string
			for _, m := range regexp.MustCompile(`level=(\w+) .*? (waiting|outcomes)=(\d+) (?:for|after)=(\S+)`).FindAllStringSubmatch(log.String(), -1) {
				lines = append(lines, fmt.Sprint(m[1], " ", m[3], " ", m[4]))
			}
			if !slices.Equal(lines, want) || bytes.Count(log.Bytes(), []byte("\n")) != len(want) {
				t.Errorf("the log says %s", log.String())
			}
			log.Reset()
		}
		settle(0)
		synctest.Wait()
		for n := range 100 {
			settle(1 + n)
		}
		<-time.After(45 * time.Second)
		expect("ERROR 1 0s", "ERROR 101 10s", "ERROR 101 30s")
		down.Store(false)
		<-time.After(2 * time.Second)
		expect("INFO 101 46s")
		settle(200)
		expect()
		cs.Stop()
	})
}
