package overdue_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/callbackrelay/caddy-relay/relay/internal/overdue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLookout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting, looks atomic.Int64
		l := overdue.New(func(time.Time) bool {
			looks.Add(1)
			return waiting.Load() > 0
		}, func(err error) { t.Error(err) })
		waiting.Store(1)
		l.Watch()
		l.Watch()
		<-time.After(10*overdue.Every + 1)
		if n := looks.Load(); n != 10 {
			t.Errorf("%d looks in the time of ten", n)
		}
		waiting.Store(0)
		<-time.After(2 * overdue.Every)
		before := looks.Load()
		<-time.After(time.Hour)
		if n := looks.Load(); n != before {
			t.Errorf("%d looks while nothing waits", n-before)
		}
		waiting.Store(1)
		l.Watch()
		<-time.After(overdue.Every + 1)
		if looks.Load() == before {
			t.Error("no look at who came after a pause")
		}
		l.Stop()
		l.Stop()
		before = looks.Load()
		l.Watch()
		<-time.After(time.Hour)
		if looks.Load() != before {
			t.Error("a look after the end")
		}
	})
}

func TestLookThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks, failed int
		l := overdue.New(func(time.Time) bool {
			if looks++; looks == 1 {
				panic("of the first look")
			}
			return false
		}, func(err error) {
			if failed++; err.Error() != "panic: of the first look" {
				t.Error(err)
			}
		})
		l.Watch()
		<-time.After(time.Hour)
		l.Stop()
		if failed != 1 || looks < 2 {
			t.Errorf("%d looks, of which %d failed", looks, failed)
		}
	})
}
