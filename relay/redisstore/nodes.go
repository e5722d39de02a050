package redisstore

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	beatEvery = 15 * time.Second
	beatLives = 3 * beatEvery
)

// Announce implements relay.SharedStore.
func (s *Store) Announce(config string) {
	s.mu.Lock()
	changed := s.config != config
	s.config = config
	s.mu.Unlock()
	if changed {
		select {
		case s.beats <- struct{}{}:
		default:
		}
	}
}

// Nodes implements relay.SharedStore.
func (s *Store) Nodes() []relay.NodeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.nodes)
}

// LiveNodes implements relay.SharedStore.
func (s *Store) LiveNodes(ctx context.Context) ([]relay.NodeStatus, error) {
	ctx, end, err := s.holdBriefly(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := s.beat(ctx, false); err != nil {
		return nil, err
	}
	return s.Nodes(), nil
}

// beatLoop announces to the other gateways that this one lives, and learns of them.
func (s *Store) beatLoop() {
	for {
		pause := beatEvery
		if s.step(stepBeat, func() error { return s.beat(s.closing, false) }) != nil {
			pause = watchEvery
		}
		select {
		case <-s.closing.Done():
			// A gateway that stops in good order is gone at once.
			_ = s.step(stepBeat, func() error { return s.beat(context.Background(), true) })
			return
		case <-time.After(pause):
		case <-s.beats:
		}
	}
}

func (s *Store) beat(ctx context.Context, leave bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	s.mu.Lock()
	node := relay.NodeStatus{Name: s.options.Node, PID: os.Getpid(), Config: s.config}
	s.mu.Unlock()
	text, _ := json.Marshal(node) // strings and numbers always marshal
	c := &call{
		script: beatScript, keys: []string{s.keys.nodes()},
		args: []any{s.self, text, beatLives.Microseconds(), leave},
	}
	if s.run(ctx, c); c.err != nil {
		return c.err
	}
	r := c.read()
	nodes := make([]relay.NodeStatus, 0, r.groups(1))
	for range r.groups(1) {
		var n relay.NodeStatus
		if json.Unmarshal([]byte(r.text()), &n) == nil {
			nodes = append(nodes, n)
		}
	}
	if err := r.done(); err != nil {
		return err
	}
	slices.SortFunc(nodes, relay.NodeStatus.Compare)
	s.mu.Lock()
	s.nodes = nodes
	s.mu.Unlock()
	return nil
}
