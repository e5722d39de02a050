package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/guard"
)

const (
	// tellEvery is the pause between two messages of a gateway, so that a flood of callbacks is none of messages.
	tellEvery = 50 * time.Millisecond
	// tryAgain is the pause after a message could not be published, or the subscription failed.
	tryAgain = time.Second
	// listenQuiet is how long a subscription may be silent before it is asked whether its Redis is still there.
	listenQuiet = 5 * time.Second
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

// rouse wakes a lane of this process, and those of the others.
func (s *Store) rouse(name relay.DestinationName) {
	s.wake(name)
	s.tell(name)
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

// message is the JSON that gateways publish on the channel.
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
		pause := tellEvery
		if s.step(stepTell, s.publish) != nil {
			pause = tryAgain
		}
		select {
		case <-s.closing.Done():
			return
		case <-time.After(pause):
		}
	}
}

// publish publishes what is dirty. What could not be is still dirty then. It may be lost: the next look at the source says
// it again.
func (s *Store) publish() error {
	m := message{From: s.self}
	s.mu.Lock()
	for name := range s.dirty {
		m.Names = append(m.Names, name)
	}
	clear(s.dirty)
	s.mu.Unlock()
	if m.Names == nil {
		return nil // told with what was dirty before
	}
	text, _ := json.Marshal(m) // strings always marshal
	ctx, cancel := context.WithTimeout(s.closing, s.options.Timeout)
	defer cancel()
	err := s.client.Publish(ctx, s.keys.wake(), text).Err()
	if err == nil {
		return nil
	}
	for _, name := range m.Names {
		s.tell(name)
	}
	return fmt.Errorf("publishing on channel %s: %w", s.keys.wake(), explain(err))
}

// listenLoop keeps a subscription.
func (s *Store) listenLoop() {
	for {
		_ = s.step(stepListen, s.listen)
		select {
		case <-s.closing.Done():
			return
		case <-time.After(tryAgain):
		}
	}
}

// listen wakes lanes by what other gateways tell, until it fails. It subscribes anew each time: a subscription that Redis
// has refused does not ask again. One that is not confirmed, or whose Redis does not answer a ping, is given up: its
// connection may lead to what is no longer there, and would be listened to for ever.
func (s *Store) listen() error {
	ctx, cancel := context.WithTimeout(s.closing, s.options.Timeout)
	sub := s.client.Subscribe(ctx, s.keys.wake())
	cancel()
	// A subscription that waits for a message does not see its context end.
	stop := context.AfterFunc(s.closing, func() { _ = sub.Close() })
	err := guard.Step(func() error { return s.hear(sub) })
	stop()
	// go-redis 9.23 keeps a subscription locked if it panics as it connects anew: Close would wait for ever.
	if _, panicked := errors.AsType[*guard.PanicError](err); !panicked {
		_ = sub.Close()
	}
	return fmt.Errorf("listening to channel %s: %w", s.keys.wake(), explain(err))
}

// hear wakes lanes by the messages of a subscription until it fails.
func (s *Store) hear(sub *redis.PubSub) error {
	confirmed, asked, heard := false, false, time.Now()
	for {
		got, err := s.receive(sub)
		if confirmed && !asked && isTimeout(err) {
			if time.Since(heard) < listenQuiet {
				continue
			}
			asked = true
			if err = s.ping(sub); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		asked, heard = false, time.Now()
		switch got := got.(type) {
		case *redis.Subscription:
			confirmed = true
			s.note(stepListen, nil)
		case *redis.Message:
			var m message
			if json.Unmarshal([]byte(got.Payload), &m) != nil || m.From == s.self {
				continue
			}
			for _, name := range m.Names {
				s.horizon.forget(name)
				s.wake(name)
			}
		}
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// receive waits for what comes next. Its context bounds what go-redis may do besides: where the connection is lost, it makes
// another one, which a Redis that hangs would not end.
func (s *Store) receive(sub *redis.PubSub) (any, error) {
	ctx, cancel := context.WithTimeout(s.closing, s.options.Timeout)
	defer cancel()
	return sub.ReceiveTimeout(ctx, s.options.Timeout)
}

func (s *Store) ping(sub *redis.PubSub) error {
	ctx, cancel := context.WithTimeout(s.closing, s.options.Timeout)
	defer cancel()
	return sub.Ping(ctx)
}
