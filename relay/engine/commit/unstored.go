package commit

import (
	"log/slog"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// unstoredFirst is how long after the first line about outcomes that cannot be stored the next one comes; the pauses double
// up to unstoredLongest.
const unstoredFirst, unstoredLongest = 10 * time.Second, 10 * time.Minute

// unstored counts the outcomes that wait because the store refused them, and logs that from time to time: not once for each
// of them and each try. It belongs to the goroutine that makes the steps.
type unstored struct {
	logger func() *slog.Logger

	waiting int // now
	all     int // that have waited since the first of them
	since   time.Time
	next    time.Time // of the next line
	pause   time.Duration
}

// failed notes that an outcome could not be stored; late reports that it was waiting already.
func (u *unstored) failed(s *relay.Settle, late bool) {
	now := time.Now()
	if !late {
		if u.waiting == 0 {
			u.all, u.since, u.next, u.pause = 0, now, now, unstoredFirst
		}
		u.waiting++
		u.all++
	}
	if now.Before(u.next) {
		return
	}
	u.next, u.pause = now.Add(u.pause), min(2*u.pause, unstoredLongest)
	u.logger().Error("outcomes of attempts cannot be stored; trying again", "source", s.Leased.Event.Source, "waiting", u.waiting,
		"for", now.Sub(u.since).Round(time.Millisecond), "event_id", s.Leased.Event.ID, "destination", s.Leased.Destination, "error", s.Err)
}

// stored notes that an outcome that was waiting is stored, or no longer to be.
func (u *unstored) stored(s *relay.Settle) {
	if u.waiting--; u.waiting == 0 {
		u.logger().Info("outcomes of attempts stored again", "source", s.Leased.Event.Source, "outcomes", u.all, "after", time.Since(u.since).Round(time.Millisecond))
	}
}
