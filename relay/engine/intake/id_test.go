package intake

import (
	"testing"
	"time"
)

func TestNewIDOfAnyClock(t *testing.T) {
	for _, now := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, 0), time.Now(), time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if a, b := NewID(now), NewID(now); len(a) != 26 || a >= b {
			t.Errorf("%s: the ids are %s and %s", now, a, b)
		}
	}
}
