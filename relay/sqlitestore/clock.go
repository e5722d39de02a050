package sqlitestore

import (
	"time"
)

// creditAtMost bounds what the clock gains by a stop of the gateway.
const creditAtMost = time.Hour

// Clock is where a store has its time from. The zero Clock is the machine's.
type Clock struct {
	// Elapsed is the time since any fixed moment, by a clock that is never stepped. Default: Go's monotonic clock.
	Elapsed func() time.Duration
	// Wall is the wall clock. Default: time.Now.
	Wall func() time.Time
}

// clock is the store's own: it advances with the process, and gains by a stop what the wall clock says that it took,
// but an hour at most. So a wall clock that jumps purges nothing, forgets nothing and makes nothing due.
type clock struct {
	Clock
	base  int64 // the store's time at start
	start time.Duration
}

func newClock(c Clock) *clock {
	if c.Elapsed == nil {
		epoch := time.Now()
		c.Elapsed = func() time.Duration { return time.Since(epoch) }
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	return &clock{Clock: c, start: c.Elapsed()}
}

// resume sets the clock by what was stored of it: its time, and the wall clock then.
func (c *clock) resume(stored, wall int64) {
	credit := millis(c.Wall()) - wall
	c.base = stored + min(max(credit, 0), creditAtMost.Milliseconds())
}

// now is the store's time in milliseconds.
func (c *clock) now() int64 { return c.base + (c.Elapsed() - c.start).Milliseconds() }

const never = int64(1) << 62

func millis(t time.Time) int64 { return t.UnixMilli() }

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func duration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// ceil is a duration in whole milliseconds, so that nothing is due before its time.
func ceil(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
