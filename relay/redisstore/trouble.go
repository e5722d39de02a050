package redisstore

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

// The steps that go on for as long as the store is open.
const (
	stepWatch  = "watch"
	stepListen = "listen"
	stepTell   = "tell"
	stepBeat   = "beat"
)

// troubles keeps what the latest step of each kind ended in, for Health.
type troubles struct {
	mu sync.Mutex
	of map[string]error
}

// note keeps the error of a step, or that it was a good one, and returns what all were before and are now.
func (t *troubles) note(step string, err error) (before, after error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.joined()
	if err == nil {
		delete(t.of, step)
	} else {
		if t.of == nil {
			t.of = map[string]error{}
		}
		t.of[step] = err
	}
	return before, t.joined()
}

// err returns the errors of all steps of which the latest was not a good one.
func (t *troubles) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.joined()
}

func (t *troubles) joined() error {
	var errs []error
	for _, step := range slices.Sorted(maps.Keys(t.of)) {
		errs = append(errs, t.of[step])
	}
	return join(errs...)
}

// step runs one step. What it ends in is for Health to say; a panic is an error too, and is logged with its stack.
func (s *Store) step(name string, step func() error) error {
	err := guard.Step(step)
	if p, ok := errors.AsType[*guard.PanicError](err); ok {
		s.log.Error("panic in the Redis store; the step is tried again", "step", name, "panic", p.Value, "stack", string(p.Stack))
	}
	if s.closing.Err() == nil {
		s.note(name, err)
	}
	return err
}

func (s *Store) note(step string, err error) {
	switch before, after := s.troubles.note(step, err); {
	case before == nil && after != nil:
		s.log.Error("redis does not answer as it should", "store", s.Info().Location, "error", after)
	case before != nil && after == nil:
		s.log.Info("redis answers again", "store", s.Info().Location)
	}
}
