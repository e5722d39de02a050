package caddymodule

import (
	"log/slog"
	"slices"
	"sync"
)

// running holds what counts of a config that has started.
type running struct {
	logger *slog.Logger
	store  Store // as the config has it
}

// latest holds what each config that has started and not stopped runs with; that of the newest one counts. What is pooled
// outlives the config it was made by, whose log files are closed when the config goes, and a config that fails to start
// leaves the one before it running.
type latest struct {
	mu     sync.Mutex
	all    []running
	newest running // the last one stays in use while its engine closes
}

// newLatest returns a latest with what counts before the first config has started.
func newLatest(first running) *latest { return &latest{newest: first} }

func (l *latest) push(r running) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r)
	l.newest = r
}

func (l *latest) remove(r running) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.all, r); i >= 0 {
		l.all = slices.Delete(l.all, i, i+1)
	}
	if n := len(l.all); n > 0 {
		l.newest = l.all[n-1]
	}
}

func (l *latest) get() running {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}
