package sqlitestore

import "github.com/callbackrelay/caddy-relay/relay"

// cacheBytes bounds what the cache holds, headers and bookkeeping aside.
const cacheBytes = 2 << 20

// cache keeps the newest events as they were accepted: most deliveries are leased soon, and need not read theirs. What is
// not in it is read.
type cache struct {
	events map[int64]cachedEvent
	oldest int64 // no event before this one is in it
	bytes  int
}

type cachedEvent struct {
	*relay.Event
	accepted int64
}

// cachedOverhead approximates the memory that an event uses beside its body, in bytes.
const cachedOverhead = 1 << 10

func newCache() cache { return cache{events: map[int64]cachedEvent{}} }

// add caches an event with a higher sequence than any before.
func (c *cache) add(ev *relay.Event, accepted int64) {
	if len(c.events) == 0 {
		c.oldest = ev.Seq
	}
	c.events[ev.Seq] = cachedEvent{ev, accepted}
	for c.bytes += cachedOverhead + len(ev.Body); c.bytes > cacheBytes; c.oldest++ {
		if old, ok := c.events[c.oldest]; ok {
			c.bytes -= cachedOverhead + len(old.Body)
			delete(c.events, c.oldest)
		}
	}
}
