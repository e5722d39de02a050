package expect

import (
	"math/rand/v2"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	// rate is how often the tasks of a source are polled, all together: 2 polls a second.
	rate = 500 * time.Millisecond
	// longestSpacing bounds the pause between two polls of a source whose provider refuses them for now.
	longestSpacing = time.Minute
	// longestPause bounds the pause between two polls of one task, unless the source has a longer one.
	longestPause = 15 * time.Minute
)

// spacing returns the least time between two polls of a source after so many of them, in a row, were refused for now.
func spacing(again int) time.Duration {
	return min(rate<<min(again, 10), longestSpacing)
}

// pause returns how long a task rests after a poll, the first one being 1. It grows from every, faster where the provider
// refuses, and it is the longest at once where asking again does not help by itself: an operator may yet mend a key. A fifth of
// it is random, so that tasks of one time do not stay together.
func pause(polls int, kind relay.VerdictKind, every time.Duration) time.Duration {
	if every <= 0 {
		every = relay.DefaultRecoverEvery
	}
	longest := max(every, longestPause)
	n := polls - 1
	switch kind {
	case relay.VerdictAgain:
		n++
	case relay.VerdictRefused:
		return jittered(longest)
	}
	d := every
	for range n {
		if d *= 2; d >= longest {
			return jittered(longest)
		}
	}
	return jittered(d)
}

func jittered(d time.Duration) time.Duration {
	return d + rand.N(d/5+1)
}
