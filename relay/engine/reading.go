package engine

import (
	"context"
	"sync"
	"time"
)

const (
	// readBurst is how long the store may be read and worked through at a stretch while callbacks crowd; in the long run it may
	// be for one part of the time in readShare.
	readBurst = time.Second
	readShare = 20
	// crowd is how many callbacks wait for the store at a time, again and again, where it has no time to spare.
	crowd     = 8
	crowdLook = 5 * time.Millisecond
	crowdGone = 3 // looks that see no crowd
)

// reading holds back whoever reads page after page, or works through all that is stored, while callbacks crowd: a list of
// everything would else have as much of the processor as they have (6). It costs nobody anything who reads now and then, and
// nobody at all while there is time to spare.
type reading struct {
	waiting func() int64 // callbacks that wait for the store

	mu   sync.Mutex
	owed time.Duration // of the time that was used, what is not made up for yet
	at   time.Time     // when that was so
}

// used notes that the store was read since a time.
func (r *reading) used(since time.Time) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed = r.owing(now) + now.Sub(since)
	r.at = now
}

func (r *reading) owing(now time.Time) time.Duration {
	return max(0, r.owed-now.Sub(r.at)/readShare)
}

func (r *reading) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owing(time.Now()) > readBurst
}

// turn waits until the next page may be read, unless ctx has ended.
func (r *reading) turn(ctx context.Context) error {
	for calm := 0; calm < crowdGone && r.over(); {
		if calm++; r.waiting() >= crowd {
			calm = 0
		}
		if err := rest(ctx, crowdLook); err != nil {
			return err
		}
	}
	return ctx.Err()
}
