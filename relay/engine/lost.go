package engine

import (
	"sync"
	"time"
)

// lost counts the tasks of each source that were given up lately. Its zero value is empty.
type lost struct {
	mu      sync.Mutex
	sources map[string]lostTasks
}

type lostTasks struct {
	n    int64
	last time.Time
}

func (l *lost) add(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources == nil {
		l.sources = map[string]lostTasks{}
	}
	l.sources[source] = lostTasks{l.sources[source].n + 1, time.Now()}
}

// of returns how many tasks were given up, one after the other, each within a while of the one before, and the last one
// within a while from now.
func (l *lost) of(source string, while time.Duration) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.sources[source]; ok && time.Since(t.last) >= while {
		delete(l.sources, source)
	}
	return l.sources[source].n
}
