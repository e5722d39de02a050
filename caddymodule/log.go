package caddymodule

import (
	"context"
	"log/slog"
	"slices"
)

// latestLog is a slog.Handler that writes to the newest logger.
type latestLog struct {
	latest *latest
	derive []func(slog.Handler) slog.Handler // the attributes and groups added, in order
}

func (l latestLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.latest.get().logger.Handler().Enabled(ctx, level)
}

func (l latestLog) Handle(ctx context.Context, r slog.Record) error {
	h := l.latest.get().logger.Handler()
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
	return latestLog{l.latest, append(slices.Clone(l.derive), derive)}
}

// Interface guards
var _ slog.Handler = latestLog{}
