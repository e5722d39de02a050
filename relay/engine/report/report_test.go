package report_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/engine/report"
)

func TestLinesKeepOrderTimeAndAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r := report.New(func() { t.Error("a line was dropped") })
		logger := r.Logger(slog.New(slog.NewTextHandler(&out, nil))).With("source", "vocals").WithGroup("g")
		began := time.Now().UTC().Format("2006-01-02T15:04:05")
		logger.Warn("one", "n", 1)
		logger.Debug("not wanted")
		logger.Error("two")
		r.Close()
		if got := out.String(); !strings.HasPrefix(got, "time="+began) || !strings.Contains(got, "level=WARN msg=one source=vocals g.n=1\n") ||
			!strings.Contains(got[strings.Index(got, "one"):], "msg=two") {
			t.Errorf("written: %s", got)
		}
	})
}

// A sink that takes nothing costs those who log nothing, and holds up a stop no longer than it may.
func TestAStalledSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, writer := io.Pipe() // nobody reads
		var dropped atomic.Int64
		r := report.New(func() { dropped.Add(1) })
		logger := r.Logger(slog.New(slog.NewTextHandler(writer, nil)))
		var hooks atomic.Int64
		start := time.Now()
		for range 10_000 {
			logger.Warn("line")
		}
		r.Hook(func() { hooks.Add(1) })
		synctest.Wait()
		if hooks.Load() != 1 {
			t.Error("a hook waits for a log line")
		}
		if n := dropped.Load(); n < 5_000 || n >= 10_000 {
			t.Errorf("%d of 10000 lines were dropped", n)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("logging took %v", waited)
		}
		r.Close()
		if waited := time.Since(start); waited > 2*time.Second {
			t.Errorf("the stop took %v", waited)
		}
		_ = reader.Close() // fails the write, and with it what is left
		synctest.Wait()
	})
}

func TestASinkThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := report.New(func() {})
		logger := r.Logger(slog.New(panicking{slog.DiscardHandler}))
		logger.Error("x")
		ran := false
		r.Hook(func() { panic("x") })
		r.Hook(func() { ran = true })
		r.Close()
		if !ran {
			t.Error("a hook that panicked ended the reporter")
		}
	})
}

type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool  { return true }
func (panicking) Handle(context.Context, slog.Record) error { panic("no room for a line") }
