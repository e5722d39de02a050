package relay_test

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Gateways that share a store must read bodies and treat conflicts alike.
func TestHash(t *testing.T) {
	hash := func(change func(*relay.Source)) string {
		src := &relay.Source{Name: "vocals", Dedupe: relay.DefaultDedupe}
		change(src)
		return (&relay.Settings{Sources: map[string]*relay.Source{src.Name: src}}).Hash()
	}
	seen := map[string]string{}
	for name, change := range map[string]func(*relay.Source){
		"nothing":  func(*relay.Source) {},
		"body":     func(s *relay.Source) { s.Body = payload.Form },
		"conflict": func(s *relay.Source) { s.DeliverConflicts = true },
		"recover":  func(s *relay.Source) { s.Recover = &relay.Recovery{After: time.Minute} },
		"dedupe":   func(s *relay.Source) { s.Dedupe = relay.DefaultDedupe[:1] },
	} {
		h := hash(change)
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[h] = name
	}
	if hash(func(*relay.Source) {}) != hash(func(s *relay.Source) { s.Body = payload.JSON }) {
		t.Error("the default body has another hash where it is written")
	}
}
