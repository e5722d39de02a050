package redisstore

import (
	"context"
	"encoding/json"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	// tellEvery is the pause between two messages of a gateway, so that a flood of callbacks is none of messages.
	tellEvery = 50 * time.Millisecond
	// listenAgain is the pause after the subscription failed.
	listenAgain = time.Second
)

// Wakeups implements relay.SharedStore.
func (s *Store) Wakeups() <-chan relay.DestinationName { return s.wakeups }

// wake wakes a lane of this process.
func (s *Store) wake(name relay.DestinationName) {
	select {
	case s.wakeups <- name:
	default: // the next look at the source says it again
	}
}

// tell lets the other gateways know that something of a destination may be due.
func (s *Store) tell(name relay.DestinationName) {
	s.mu.Lock()
	s.dirty[name] = true
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// message is what goes over the channel.
type message struct {
	From  string                  `json:"from"`
	Names []relay.DestinationName `json:"names"`
}

// tellLoop publishes what is dirty: at once, and then no more often than tellEvery.
func (s *Store) tellLoop() {
	for {
		select {
		case <-s.closing.Done():
			return
		case <-s.news:
		}
		m := message{From: s.self}
		s.mu.Lock()
		for name := range s.dirty {
			m.Names = append(m.Names, name)
		}
		clear(s.dirty)
		s.mu.Unlock()
		text, _ := json.Marshal(m)                       // strings always marshal
		s.client.Publish(s.closing, s.keys.wake(), text) // it may be lost: the next look at the source says it again
		select {
		case <-s.closing.Done():
			return
		case <-time.After(tellEvery):
		}
	}
}

// listenLoop wakes lanes by what other gateways tell.
func (s *Store) listenLoop() {
	sub := s.client.Subscribe(s.closing, s.keys.wake())
	// A subscription that waits for a message does not see its context end.
	stop := context.AfterFunc(s.closing, func() { _ = sub.Close() })
	defer stop()
	for {
		got, err := sub.ReceiveMessage(s.closing)
		if err != nil {
			select {
			case <-s.closing.Done():
				return
			case <-time.After(listenAgain):
			}
			continue
		}
		var m message
		if json.Unmarshal([]byte(got.Payload), &m) != nil || m.From == s.self {
			continue
		}
		for _, name := range m.Names {
			s.wake(name)
		}
	}
}
