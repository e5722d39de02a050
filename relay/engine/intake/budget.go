package intake

import (
	"container/list"
	"sync"
)

// maxReading is how many bytes of bodies may be read at a time, all together.
const maxReading = 256 << 20

// budget bounds the memory of the bodies that are being read. Room is taken as bytes come. When there is none left, the
// source that uses most gives some back: its slowest body, the one that has not grown for longest, is told to end. So
// strangers who announce much and send little are the first to go, and other sources never notice.
type budget struct {
	limit int64

	mu      sync.Mutex
	total   int64
	sources map[string]*share
}

// share is the part of the budget that one source uses.
type share struct {
	total  int64
	bodies list.List // of *room: those that have not grown for longest come first
}

func newBudget(limit int64) *budget { return &budget{limit: limit, sources: map[string]*share{}} }

// room is the part of the budget that one body uses.
type room struct {
	budget *budget
	share  *share
	size   int64
	place  *list.Element // nil once it was given back
	end    func()        // makes the read of this body fail
	ended  bool          // by the budget
}

// open returns the room of a new body, which has taken nothing yet. end is called at most once, if the room is needed by
// others: it must make the body's read fail.
func (b *budget) open(source string, end func()) *room {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sources[source]
	if s == nil {
		s = &share{}
		b.sources[source] = s
	}
	r := &room{budget: b, share: s, end: end}
	r.place = s.bodies.PushBack(r)
	return r
}

// grow reserves more room and reports whether there was any. Where there is none, the body is the slowest of the source that
// uses most, or that source cannot give back enough.
func (r *room) grow(by int64) bool {
	victims, ok := r.take(by)
	for _, v := range victims {
		v.end()
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
