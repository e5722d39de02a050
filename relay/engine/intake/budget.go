package intake

import (
	"container/list"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/overdue"
)

// maxReading is how many bytes of bodies may be read at a time, all together.
const maxReading = 256 << 20

// budget bounds the memory of the bodies that are being read. Room is taken as bytes come. When there is none left, the
// source that uses most gives some back: its slowest body, the one that has not grown for longest, is told to end. So
// strangers who announce much and send little are the first to go, and other sources never notice.
type budget struct {
	limit   int64
	overdue *overdue.Lookout // for bodies that do not come in time

	mu      sync.Mutex
	total   int64
	sources map[string]*share
}

// share is the part of the budget that one source uses.
type share struct {
	total  int64
	bodies list.List // of *room: those that have not grown for longest come first
}

func newBudget(limit int64, failed func(error)) *budget {
	b := &budget{limit: limit, sources: map[string]*share{}}
	b.overdue = overdue.New(b.hurry, failed)
	return b
}

// room is the part of the budget that one body uses.
type room struct {
	budget *budget
	share  *share
	size   int64
	place  *list.Element // nil once it was given back
	by     time.Time     // when all of the body must have come; zero once it has, or was told to end
	ended  bool          // by the budget

	ending sync.Mutex // held while end runs: never while others wait for the budget
	end    func()     // makes the read of this body fail; nil once none is read any more
}

// tell ends the read of the body, if one is under way.
func (r *room) tell() {
	r.ending.Lock()
	defer r.ending.Unlock()
	if r.end != nil {
		r.end()
	}
}

// read notes that none of the body is read any more. Nothing touches its request from then on, which the server may have
// given to somebody else by the time that the budget comes to it.
func (r *room) read() {
	r.ending.Lock()
	defer r.ending.Unlock()
	r.end = nil
}

// open returns the room of a new body, which has taken nothing yet. end is called if the room is needed by others, or the
// body has not come by then: it must make the body's read fail.
func (b *budget) open(source string, by time.Time, end func()) *room {
	defer b.overdue.Watch()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sources[source]
	if s == nil {
		s = &share{}
		b.sources[source] = s
	}
	r := &room{budget: b, share: s, by: by, end: end}
	r.place = s.bodies.PushBack(r)
	return r
}

// hurry ends the bodies that have not come in time, and reports whether others are still to come.
func (b *budget) hurry(now time.Time) (waiting bool) {
	late, waiting := b.late(now)
	for _, r := range late {
		r.tell()
	}
	return waiting
}

func (b *budget) late(now time.Time) (late []*room, waiting bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sources {
		for e := s.bodies.Front(); e != nil; e = e.Next() {
			switch r := e.Value.(*room); {
			case r.by.IsZero():
			case now.Before(r.by):
				waiting = true
			default:
				r.by = time.Time{}
				late = append(late, r)
			}
		}
	}
	return late, waiting
}

// until sets anew when the body must have come, unless it was told to end.
func (r *room) until(by time.Time) {
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	if !r.by.IsZero() {
		r.by = by
	}
}

// whole notes that all of the body has come, and reports whether it was told to end a moment before. It keeps its room.
func (r *room) whole() (late bool) {
	r.read()
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	late = r.by.IsZero() || r.ended
	r.by = time.Time{}
	return late
}

// grow reserves more room and reports whether there was any. Where there is none, the body is the slowest of the source that
// uses most, or that source cannot give back enough.
func (r *room) grow(by int64) bool {
	victims, ok := r.take(by)
	for _, v := range victims {
		v.tell()
	}
	return ok
}

// take moves room from whoever must give it, whom the caller then ends.
func (r *room) take(by int64) (victims []*room, ok bool) {
	b := r.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.place == nil {
		return nil, false
	}
	r.share.bodies.MoveToBack(r.place)
	for b.total+by > b.limit {
		slowest := b.greediest().slowest()
		if slowest == nil || slowest == r {
			return victims, false
		}
		slowest.ended = true
		slowest.free() // its memory follows in a moment
		victims = append(victims, slowest)
	}
	r.size += by
	r.share.total += by
	b.total += by
	return victims, true
}

// greediest returns the source that uses most.
func (b *budget) greediest() *share {
	var most *share
	for _, s := range b.sources {
		if most == nil || s.total > most.total {
			most = s
		}
	}
	return most
}

// slowest returns the body that has not grown for longest among those that have taken room; nil if there is none.
func (s *share) slowest() *room {
	for e := s.bodies.Front(); e != nil; e = e.Next() {
		if r := e.Value.(*room); r.size > 0 {
			return r
		}
	}
	return nil
}

// close frees the room, and reports whether the budget had ended the body before.
func (r *room) close() (ended bool) {
	r.read()
	r.budget.mu.Lock()
	defer r.budget.mu.Unlock()
	r.free()
	return r.ended
}

// free returns the room to the budget. The caller holds the budget's lock.
func (r *room) free() {
	if r.place == nil {
		return
	}
	r.share.bodies.Remove(r.place)
	r.share.total -= r.size
	r.budget.total -= r.size
	r.size, r.place = 0, nil
}
