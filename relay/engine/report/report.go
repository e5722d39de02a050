// Package report passes on log lines and hooks of those who must not wait for them: the committer, a lane, a callback that
// is being answered. A log line is I/O, and a pipe that nobody reads stops whoever writes to it for good.
package report

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	// queued is how many log lines may wait for a sink, and how many hooks for an earlier one. What comes later is dropped
	// and counted.
	queued = 4096
	// patience is how long Close waits for sinks that do not accept what is still queued.
	patience = 2 * time.Second
)

// Reporter hands log lines and hooks to their sinks, each kind from a goroutine of its own and in the order they came.
// No method but Close waits.
type Reporter struct {
	lines   chan line
	hooks   chan func()
	dropped func()

	closing sync.Once
	quit    chan struct{}
	loops   sync.WaitGroup
}

type line struct {
	sink   slog.Handler
	record slog.Record
}

// New starts a reporter. dropped is called for each line or hook that is dropped because its sink does not keep up.
func New(dropped func()) *Reporter {
	r := &Reporter{
		lines: make(chan line, queued), hooks: make(chan func(), queued),
		dropped: dropped, quit: make(chan struct{}),
	}
	r.loops.Go(func() {
		serve(r.quit, r.lines, func(l line) error { return l.sink.Handle(context.Background(), l.record) })
	})
	r.loops.Go(func() {
		serve(r.quit, r.hooks, func(hook func()) error { hook(); return nil })
	})
	return r
}

// serve passes items to the sink until quit, and then those that are queued already. A failure or a panic of a sink is
// dropped, because the log that it would be reported to is the sink itself.
func serve[T any](quit <-chan struct{}, queue <-chan T, sink func(T) error) {
	pass := func(item T) { _ = guard.Step(func() error { return sink(item) }) }
	for {
		select {
		case item := <-queue:
			pass(item)
		case <-quit:
			for {
				select {
				case item := <-queue:
					pass(item)
				default:
					return
				}
			}
		}
	}
}

// Logger returns a logger whose lines go to the given one's sink through the reporter.
func (r *Reporter) Logger(to *slog.Logger) *slog.Logger {
	if h, ok := to.Handler().(handler); ok && h.reporter == r {
		return to
	}
	return slog.New(handler{r, to.Handler()})
}

// Hook calls a function of a foreign package, which may block, from the reporter's goroutine.
func (r *Reporter) Hook(hook func()) {
	select {
	case r.hooks <- hook:
	default:
		r.dropped()
	}
}

// Close ends the reporter once what is queued has been written, or after two seconds: a write to a pipe that nobody reads
// cannot be interrupted, and must not hold up a stop. Lines that come later are dropped.
func (r *Reporter) Close() {
	r.closing.Do(func() { close(r.quit) })
	done := make(chan struct{})
	go func() {
		r.loops.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
	}
}

// handler is a slog.Handler that queues records for another one.
type handler struct {
	reporter *Reporter
	sink     slog.Handler
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.sink.Enabled(ctx, level)
}

func (h handler) Handle(_ context.Context, record slog.Record) error {
	select {
	case h.reporter.lines <- line{h.sink, record}:
	default:
		h.reporter.dropped()
	}
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.reporter, h.sink.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.reporter, h.sink.WithGroup(name)}
}

var _ slog.Handler = handler{}
