package caddymodule

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// loggers are those of the configs that have started and not stopped; the newest one counts. What is pooled outlives the
// config it was made by, whose log files are closed when the config goes, and a config that fails to start leaves
// the one before it running.
type loggers struct {
	mu     sync.Mutex
	all    []*slog.Logger
	newest *slog.Logger // the last one stays in use while its engine closes
}

func newLoggers() *loggers { return &loggers{newest: slog.New(slog.DiscardHandler)} }

func (l *loggers) push(logger *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, logger)
	l.newest = logger
}

func (l *loggers) remove(logger *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.all, logger); i >= 0 {
		l.all = slices.Delete(l.all, i, i+1)
	}
	if n := len(l.all); n > 0 {
		l.newest = l.all[n-1]
	}
}

func (l *loggers) handler() slog.Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest.Handler()
}

// latestLog is a slog.Handler that writes to the newest logger.
type latestLog struct {
	loggers *loggers
	derive  []func(slog.Handler) slog.Handler // the attributes and groups added, in order
}

func (l latestLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.loggers.handler().Enabled(ctx, level)
}

func (l latestLog) Handle(ctx context.Context, r slog.Record) error {
	h := l.loggers.handler()
	for _, derive := range l.derive {
		h = derive(h)
	}
	return h.Handle(ctx, r)
}

func (l latestLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return l.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (l latestLog) WithGroup(name string) slog.Handler {
	return l.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (l latestLog) with(derive func(slog.Handler) slog.Handler) slog.Handler {
	return latestLog{l.loggers, append(slices.Clone(l.derive), derive)}
}

// Interface guards
var _ slog.Handler = latestLog{}
