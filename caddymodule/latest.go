package caddymodule

import (
	"slices"
	"sync"
)

// latest holds one value of each config that has started and not stopped; that of the newest one counts. What is pooled
// outlives the config it was made by, whose log files are closed when the config goes, and a config that fails to start
// leaves the one before it running.
type latest[T comparable] struct {
	mu     sync.Mutex
	all    []T
	newest T // the last one stays in use while its engine closes
}

// newLatest returns a latest with what counts before the first config has started.
func newLatest[T comparable](first T) *latest[T] { return &latest[T]{newest: first} }

func (l *latest[T]) push(value T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, value)
	l.newest = value
}

func (l *latest[T]) remove(value T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.all, value); i >= 0 {
		l.all = slices.Delete(l.all, i, i+1)
	}
	if n := len(l.all); n > 0 {
		l.newest = l.all[n-1]
	}
}

func (l *latest[T]) get() T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}
