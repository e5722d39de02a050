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

// beatLoop tells the other gateways that this one lives, and learns of them.
func (s *Store) beatLoop() {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	s.beat(s.closing, false)
	for {
		select {
		case <-s.closing.Done():
			// A gateway that stops in good order is gone at once.
			s.beat(context.Background(), true)
			return
		case <-ticker.C:
		case <-s.beats:
		}
		s.beat(s.closing, false)
	}
}

func (s *Store) beat(ctx context.Context, leave bool) {
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
	s.run(ctx, c)
	if c.err != nil {
		return // the watch says what is wrong
	}
	r := c.read()
	nodes := make([]relay.NodeStatus, 0, r.groups(1))
	for range r.groups(1) {
		var n relay.NodeStatus
		if json.Unmarshal([]byte(r.text()), &n) == nil {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, relay.NodeStatus.Compare)
	s.mu.Lock()
	s.nodes = nodes
	s.mu.Unlock()
}
