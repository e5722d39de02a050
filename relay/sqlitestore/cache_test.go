package sqlitestore

import (
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestCache(t *testing.T) {
	c := newCache()
	event := func(seq int64, size int) cachedEvent {
		return cachedEvent{&relay.Event{Seq: seq, Body: make([]byte, size)}, 0}
	}
	for seq := range int64(3) {
		c.add(event(seq+1, cacheBytes/2-cachedOverhead).Event, 0)
	}
	c.keep(event(4, readBody))
	c.keep(event(5, readBody+1))
	c.keep(event(6+readEvents, 0))
	c.keep(event(6, 0)) // in its place
	for seq, want := range map[int64]bool{
		0: false, 1: false, 2: true, 3: true, 4: true, 4 + readEvents: false, 5: false, 6: true, 6 + readEvents: false,
	} {
		if ev, ok := c.find(seq); ok != want || ok && ev.Seq != seq {
			t.Errorf("event %d is in the cache: %t", seq, ok)
		}
	}
}
