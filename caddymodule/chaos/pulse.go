package chaos

import (
	"context"
	"slices"
	"time"
)

// starving is how late the driver's own ticker is where the machine has no time left for it, nor for a gateway.
const starving = 150 * time.Millisecond

// pulse notes when the machine does not let the driver run in time, until ctx ends. What is late meanwhile proves nothing.
func (l *ledger) pulse(ctx context.Context) {
	const every = 20 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(last) > every+starving {
			l.mu.Lock()
			l.gaps = append(l.gaps, span{last, now})
			l.mu.Unlock()
		}
		last = now
	}
}

// starved reports whether the machine was too busy within a second before a time until another. The caller holds mu.
func (l *ledger) starved(from, to time.Time) bool {
	return slices.ContainsFunc(l.gaps, func(gap span) bool { return gap.touches(from.Add(-time.Second), to) })
}
