package sqlitestore

import "github.com/callbackrelay/caddy-relay/relay"

const (
	// cacheBytes bounds the newest events in the cache: as many of the usual size as a queue holds.
	cacheBytes = queued * (cachedOverhead + 1<<10)
	// readEvents is how many events are cached that were read, and readBody how large their bodies may be.
	readEvents, readBody = 256, 8 << 10
)

// cache keeps the newest events as they were accepted: most deliveries are leased soon, and need not read theirs. It also
// keeps some that had to be read, since the other destinations of an event often ask for it next.
type cache struct {
	events map[int64]cachedEvent
	oldest int64 // no event before this one is in it
	bytes  int
	read   [readEvents]cachedEvent // by the last digits of their sequence
}

type cachedEvent struct {
	*relay.Event
	accepted int64
}

// cachedOverhead approximates the memory that an event uses beside its body, in bytes.
const cachedOverhead = 1 << 10

func newCache() cache { return cache{events: map[int64]cachedEvent{}} }

// find returns an event that is in the cache.
func (c *cache) find(seq int64) (cachedEvent, bool) {
	if ev, ok := c.events[seq]; ok {
		return ev, true
	}
	ev := c.read[seq%readEvents]
	return ev, ev.Event != nil && ev.Seq == seq
}

// keep caches an event that was read.
func (c *cache) keep(ev cachedEvent) {
	if len(ev.Body) <= readBody {
		c.read[ev.Seq%readEvents] = ev
	}
}

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
