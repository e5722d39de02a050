package lane

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// behindPause is how long a replayed delivery waits until it looks again for the one that it waits for.
const behindPause = 2 * time.Second

// turn is a leased delivery that waits for the end of an earlier attempt of its own.
type turn struct {
	delivery *relay.Leased
	leasedAt time.Time
	probe    bool
}

// behind reports whether an earlier attempt of a delivery is still under way: its lease ended before it did, as all leases of
// an embedded store do when its file is opened anew. No two attempts of a delivery overlap, so the later one waits its turn.
// Otherwise the attempt counts as under way from now on. The caller holds mu.
func (l *Lane) behind(t turn) bool {
	id := t.delivery.Event.ID
	waiting, underWay := l.underWay[id]
	if waiting != nil {
		l.machine.unanswered(waiting.probe)
		l.release(waiting.delivery, nil) // its lease has ended as well
	}
	if underWay {
		l.underWay[id] = &t
		return true
	}
	l.underWay[id] = nil
	return false
}

// over notes that an attempt is not under way any more, and starts the one that waits for that.
func (l *Lane) over(d *relay.Leased) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.underWay[d.Event.ID]
	delete(l.underWay, d.Event.ID)
	if next != nil {
		l.start(next.delivery, next.leasedAt, next.probe)
		l.follow()
	}
}
