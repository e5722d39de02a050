// Package stream tells watchers what happens to events on this node as it happens. Who publishes never waits for them: it
// appends to a ring that all watchers read from, and one that does not keep up with the ring loses its place.
package stream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxWatchers is how many may watch at a time.
	MaxWatchers = 64
	// ringSize is how many items a watcher may be behind. All watchers share the ring, so it is all the memory they use.
	// The order of as many accepted events is remembered.
	ringSize = 8192
)

// Errors of watching.
var (
	ErrFull   = errors.New("too many clients watch the stream already")
	ErrBehind = errors.New("the client did not keep up with the stream")
)

// Kind names what happened.
type Kind string

const (
	Accepted  Kind = "accepted"  // an event was stored
	Delivered Kind = "delivered" // to one destination
	Retrying  Kind = "retrying"  // an attempt failed, and another one is planned
	Dead      Kind = "dead"      // a delivery was given up
)

// Item is one thing that happened to an event.
type Item struct {
	Kind    Kind
	At      time.Time
	EventID string
	Source  string
	TaskID  string
	Stage   string // of what was accepted
	Code    string // of what was accepted
	Seq     int64  // of what was accepted
	Earlier bool   // stored before the event after which the stream begins, whose client may have missed it

	// What follows is of a delivery.
	Destination string
	Attempt     int
	Status      int
	Error       string
	Duration    time.Duration // of the attempt
	RetryIn     time.Duration // zero: when the queue of the destination comes to it
}

// Entry is an item as watchers see it.
type Entry struct {
	Item
	once sync.Once
	text []byte
}

// Text returns the item as render writes it, which is called once for all watchers.
func (e *Entry) Text(render func(*Item) []byte) []byte {
	e.once.Do(func() { e.text = render(&e.Item) })
	return e.text
}

// Hub passes items on to watchers. Its zero value has none. All methods may be called concurrently, and none but
// Watcher.Next waits.
type Hub struct {
	watchers  atomic.Int32 // so that publishing costs nothing where nobody watches
	remembers atomic.Bool  // Remember was called

	mu   sync.Mutex
	ring []*Entry      // of ringSize, once somebody has watched
	next uint64        // number of the next item; its place is the rest by ringSize
	news chan struct{} // closed when the next item comes; nil while nobody waits for it

	order  []place // of the last accepted events, of which there are ringSize at most
	oldest int     // of order, once it is full
}

// place is an event in the order in which they were published.
type place struct {
	id  string
	seq int64
}

// Remember starts keeping the order in which events are published, for Overtaken, whether or not anybody watches.
func (h *Hub) Remember() { h.remembers.Store(true) }

// Remembers reports whether an accepted event is worth publishing even if nobody watches.
func (h *Hub) Remembers() bool { return h.remembers.Load() }

// Watched reports whether anybody watches, so that an item is worth making.
func (h *Hub) Watched() bool { return h.watchers.Load() > 0 }

// Publish passes an item on to those who watch.
func (h *Hub) Publish(i Item) {
	remembers := i.Kind == Accepted && h.Remembers()
	if !remembers && !h.Watched() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if remembers {
		h.remember(place{i.EventID, i.Seq})
	}
	if h.ring == nil {
		return // the last watcher has gone
	}
	h.ring[h.next%ringSize] = &Entry{Item: i}
	h.next++
	if h.news != nil {
		close(h.news)
		h.news = nil
	}
}

func (h *Hub) remember(p place) {
	if len(h.order) < ringSize {
		h.order = append(h.order, p)
		return
	}
	h.order[h.oldest] = p
	h.oldest = (h.oldest + 1) % ringSize
}

// Overtaken returns the sequences of the events, by id, that were published later than one that was stored after them. known is
// false if that one is not among the last that were published here.
func (h *Hub) Overtaken(id string, seq int64) (late map[string]int64, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.order {
		switch p := h.order[(h.oldest+i)%len(h.order)]; {
		case p.id == id:
			late, known = map[string]int64{}, true
		case known && p.seq < seq:
			late[p.id] = p.seq
		}
	}
	return late, known
}

// Watch begins to watch: every item that is published from now on is seen. The watcher must be closed.
func (h *Hub) Watch() (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers.Load() >= MaxWatchers {
		return nil, ErrFull
	}
	if h.ring == nil {
		h.ring = make([]*Entry, ringSize)
	}
	h.watchers.Add(1)
	return &Watcher{hub: h, next: h.next}, nil
}

// Watcher is one client's place in the stream. One goroutine may use it.
type Watcher struct {
	hub    *Hub
	next   uint64
	closed bool
}

// Next appends what has been published since the last call to entries, `most` of it at a time, and waits for something
// until ctx ends. ErrBehind is returned once the watcher has missed something: it must read that from the store.
func (w *Watcher) Next(ctx context.Context, entries []*Entry, most int) ([]*Entry, error) {
	for {
		h := w.hub
		h.mu.Lock()
		if w.behind() {
			h.mu.Unlock()
			return entries, ErrBehind
		}
		if n := min(h.next-w.next, uint64(most)); n > 0 {
			for range n {
				entries = append(entries, h.ring[w.next%ringSize])
				w.next++
			}
			h.mu.Unlock()
			return entries, nil
		}
		if h.news == nil {
			h.news = make(chan struct{})
		}
		news := h.news
		h.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return entries, ctx.Err()
		}
	}
}

// Skip goes on with what is published from now on.
func (w *Watcher) Skip() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.next = w.hub.next
}

// Behind reports whether the watcher has missed something.
func (w *Watcher) Behind() bool {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return w.behind()
}

// behind is Behind. The caller holds the hub's lock.
func (w *Watcher) behind() bool { return w.hub.next-w.next > ringSize }

// Close ends the watch. It may be called more than once.
func (w *Watcher) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	if h.watchers.Add(-1) == 0 {
		h.ring, h.news = nil, nil // a watcher that waits for news has not been closed
	}
}
