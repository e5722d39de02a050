package caddymodule

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// places remembers where the relay option and handlers of the Caddyfile adapted last are. Provisioning sees nothing but
// JSON, and finds what only it can know (whom the server trusts, a secret that is not set): with this, `caddy validate` and
// `caddy run` name file and line there too.
var places placeBook

// placeBook maps a configuration, as canonicalJSON has it, to the places that define it.
type placeBook struct {
	mu    sync.Mutex
	phase adaptPhase // of what was noted last
	of    map[string][]place
}

// adaptPhase is a part of a Caddyfile; Caddy adapts them in this order.
type adaptPhase int

const (
	phaseOption adaptPhase = iota + 1
	phaseNamedRoutes
	phaseSites
)

// note adds a place. first reports that it is the first of its phase: a phase that does not come after the last one
// belongs to another Caddyfile, and whatever is known is forgotten.
func (b *placeBook) note(phase adaptPhase, first bool, canonical []byte, p place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first {
		if phase <= b.phase || b.of == nil {
			b.of = make(map[string][]place)
		}
		b.phase = phase
	}
	if key := string(canonical); !slices.Contains(b.of[key], p) {
		b.of[key] = append(b.of[key], p)
	}
}

// find returns the places of a configuration as a text; empty if none is known.
func (b *placeBook) find(canonical []byte) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var texts []string
	for _, p := range b.of[string(canonical)] {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, " or ")
}

// locate adds the places of a configuration to its error, where they are known.
func (b *placeBook) locate(canonical []byte, err error) error {
	if at := b.find(canonical); err != nil && at != "" {
		return fmt.Errorf("%w, at %s", err, at)
	}
	return err
}
