package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
	"github.com/callbackrelay/caddy-relay/relay/engine/meter"
	"github.com/callbackrelay/caddy-relay/relay/engine/sweep"
)

// ailing is a store with something wrong.
type ailing struct {
	relay.Store
	err error
}

func (a *ailing) Health(context.Context) error { return a.err }
func (*ailing) Info() relay.StoreInfo          { return relay.StoreInfo{Location: "here"} }

// lines is a log.
type lines struct {
	slog.Handler
	all []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			line = fmt.Sprint(line, ": ", a.Value)
		}
		return true
	})
	l.all = append(l.all, line)
	return nil
}

// The first reason is logged at once, and another one only where it lasts, since the first looks after an outage may find
// leftovers of it.
func TestTheLogOfLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{Handler: slog.DiscardHandler}
		logger := slog.New(log)
		s := sweep.New(sweep.Params{
			Settings: func() (*relay.Settings, bool) { return &relay.Settings{Logger: logger}, true },
			Commit:   commit.New(commit.Params{Meter: meter.New(), Logger: func() *slog.Logger { return logger }}),
		})
		store := new(ailing)
		look := func(reason string, want ...string) {
			t.Helper()
			if store.err = nil; reason != "" {
				store.err = errors.New(reason)
			}
			if err := s.Look(t.Context(), store); !errors.Is(err, store.err) || s.Healthy() != (err == nil) {
				t.Errorf("the look returns %v, healthy: %t", err, s.Healthy())
			}
			if !reflect.DeepEqual(log.all, want) {
				t.Errorf("%q: the log says %q, not %q", reason, log.all, want)
			}
			log.all = nil
			<-time.After(time.Second)
		}
		look("")
		look("refused", "store unhealthy: refused")
		look("refused")
		look("timeout")
		look("refused")
		for range 5 {
			look("timeout")
		}
		look("timeout", "store unhealthy: timeout")
		look("timeout")
		look("no answer to the last step")
		look("", "store healthy again")
		look("no answer to the last step", "store unhealthy: no answer to the last step")
	})
}
