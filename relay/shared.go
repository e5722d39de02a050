package relay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrUnavailable says that the store cannot be reached, or takes no writes for now. It says nothing about what was to
// be written, which may have been written all the same.
var ErrUnavailable = errors.New("store unavailable")

// SharedStore is implemented by stores that several gateways share.
type SharedStore interface {
	Store
	// Wakeups names destinations of which something may be due, or which may be paused no longer: another gateway has
	// said so, or the store has looked. A message may be missing; the store looks often enough.
	Wakeups() <-chan DestinationName
	// Announce tells the other gateways a hash of the sources that this one has.
	Announce(config string)
	// Nodes lists the gateways that live. It answers from memory.
	Nodes() []NodeStatus
}

// Compare orders nodes for people.
func (n NodeStatus) Compare(other NodeStatus) int {
	return cmp.Or(cmp.Compare(n.Name, other.Name), cmp.Compare(n.PID, other.PID), cmp.Compare(n.Config, other.Config))
}

// listen wakes lanes that a shared store says have something to do, until the engine stops.
func (e *Engine) listen(store SharedStore) {
	for {
		select {
		case <-e.stop:
			return
		case name := <-store.Wakeups():
			if l := e.lane(name.Source, name.Destination); l != nil {
				l.rouse()
			}
		}
	}
}

// hash tells two configurations apart in what gateways that share a store should have in common.
func (s *Settings) hash() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s.Sources)) {
		src := s.Sources[name]
		_, _ = fmt.Fprintln(h, name, src.Dedupe, src.DedupeWindow) // a hash takes all
		for _, d := range src.Destinations {
			_, _ = fmt.Fprintln(h, d.Name, d.URL, d.Timeout, d.Retry, d.Permanent, d.Expire, d.OrderTask)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}
