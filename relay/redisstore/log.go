package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// logs receives the log messages of go-redis, which would else go to stderr. go-redis has one logger for the whole process:
// it is that of the store which was opened last.
var logs clientLog

type clientLog struct {
	install sync.Once
	mu      sync.Mutex
	loggers []*slog.Logger
}

func (l *clientLog) add(logger *slog.Logger) {
	l.mu.Lock()
	l.loggers = append(l.loggers, logger)
	l.mu.Unlock()
	l.install.Do(func() { redis.SetLogger(l) })
}

func (l *clientLog) remove(logger *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.loggers, logger); i >= 0 {
		l.loggers = slices.Delete(l.loggers, i, i+1)
	}
}

// latest returns the logger of the store that was opened last, or nil.
func (l *clientLog) latest() *slog.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.loggers); n > 0 {
		return l.loggers[n-1]
	}
	return nil
}

// Printf implements go-redis's logger. What matters of it fails a call too, and is logged with that.
func (l *clientLog) Printf(ctx context.Context, format string, args ...any) {
	if log := l.latest(); log != nil {
		log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
	}
}
