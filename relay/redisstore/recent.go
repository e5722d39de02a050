package redisstore

import (
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// recent keeps events that this process has stored while some of their deliveries wait for their first lease, so that what it has
// just written need not be read again. An event never changes. One whose deliveries wait longer, or are leased by another gateway,
// is forgotten, whether or not others come: a backlog stays in Redis.
type recent struct {
	mu         sync.Mutex
	young, old generation
	since      time.Time // when the young ones were none
}

// generation is events that were stored at about the same time.
type generation struct {
	events map[string]*recentEvent
	bytes  int // of their bodies and headers
}

type recentEvent struct {
	event          *relay.Event
	waiting, bytes int // deliveries, and what it counts for in its generation
}

// Limits of a generation, of which there are two. Each lasts for recentFor, and to the next event or look at the sources after that.
const (
	recentFor    = 5 * time.Second
	recentEvents = 4096
	recentBytes  = 8 << 20
)

// add keeps an event of which so many deliveries wait. When there is no room it does not: the oldest are leased first.
func (c *recent) add(e *relay.Event, waiting int) {
	bytes := len(e.Body) + len(e.EncodedHeaders())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age()
	if g := &c.young; len(g.events) < recentEvents && g.bytes+bytes <= recentBytes {
		g.events[e.ID] = &recentEvent{e, waiting, bytes}
		g.bytes += bytes
	}
}

// forget forgets what is old, also while no event comes.
func (c *recent) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age()
}

// age begins a generation if it is time for one. The caller holds the lock.
func (c *recent) age() {
	if now := time.Now(); now.Sub(c.since) > recentFor {
		c.old, c.young, c.since = c.young, generation{events: map[string]*recentEvent{}}, now
	}
}

// take returns an event of which a delivery was leased for the first time, or nil if it is not kept.
func (c *recent) take(id string) *relay.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range []*generation{&c.old, &c.young} {
		r := g.events[id]
		if r == nil {
			continue
		}
		if r.waiting--; r.waiting == 0 {
			delete(g.events, id)
			g.bytes -= r.bytes
		}
		return r.event
	}
	return nil
}
