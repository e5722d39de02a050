package redisstore

import (
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// recent keeps events that this process has stored while some of their deliveries wait for their first lease, so that what it has
// just written need not be read again. An event never changes. One whose deliveries wait longer, or are leased by another gateway,
// is forgotten: a backlog stays in Redis.
type recent struct {
	mu         sync.Mutex
	young, old generation
	since      time.Time // when the young ones were none
}

// generation is events that were stored at about the same time.
type generation struct {
	events map[string]*recentEvent
	bytes  int // of their bodies
}

type recentEvent struct {
	event   *relay.Event
	waiting int // deliveries
}

// Limits of a generation, of which there are two. An event is forgotten after recentFor to twice that.
const (
	recentFor    = 5 * time.Second
	recentEvents = 4096
	recentBytes  = 8 << 20
)

// add keeps an event of which so many deliveries wait. When there is no room it does not: the oldest are leased first.
func (c *recent) add(e *relay.Event, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.since) > recentFor {
		c.old, c.young, c.since = c.young, generation{events: map[string]*recentEvent{}}, now
	}
	if g := &c.young; len(g.events) < recentEvents && g.bytes+len(e.Body) <= recentBytes {
		g.events[e.ID] = &recentEvent{e, waiting}
		g.bytes += len(e.Body)
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
			g.bytes -= len(r.event.Body)
		}
		return r.event
	}
	return nil
}
