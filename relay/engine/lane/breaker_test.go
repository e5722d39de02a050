package lane

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func TestBreaker(t *testing.T) {
	type try struct {
		status int
		event  string
	}
	for name, tc := range map[string]struct {
		tries []try
		open  bool
	}{
		"three of one event without an answer": {[]try{{0, "a"}, {0, "a"}, {0, "a"}}, true},
		"two are not enough":                   {[]try{{0, "a"}, {0, "b"}}, false},
		"one poison event":                     {[]try{{500, "a"}, {500, "a"}, {500, "a"}, {500, "a"}}, false},
		"500s of two events":                   {[]try{{500, "a"}, {500, "a"}, {500, "b"}}, true},
		"503s of one event":                    {[]try{{503, "a"}, {503, "a"}, {503, "a"}}, true},
		"429 counts":                           {[]try{{429, "a"}, {429, "a"}, {429, "a"}}, true},
		"404 resets":                           {[]try{{0, "a"}, {0, "a"}, {404, "a"}, {0, "a"}, {0, "a"}}, false},
		"2xx closes":                           {[]try{{0, "a"}, {0, "a"}, {0, "a"}, {200, "b"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := breaker{policy: relay.BreakerPolicy{Failures: 3, Probe: time.Second}}
			for _, try := range tc.tries {
				b.record(try.status, try.event)
			}
			if b.open != tc.open {
				t.Errorf("open is %v, want %v", b.open, tc.open)
			}
		})
	}
	t.Run("off", func(t *testing.T) {
		b := breaker{}
		for range 10 {
			b.record(0, "a")
		}
		if b.open {
			t.Error("a breaker that is off opened")
		}
	})
}

// A probe that was asked for before the breaker closed must not count as one of its next opening.
func TestBreakerOpensWithoutAProbe(t *testing.T) {
	b := breaker{policy: relay.BreakerPolicy{Failures: 1, Probe: time.Second}, probing: true}
	if !b.record(0, "a") || !b.open || b.probing {
		t.Errorf("open is %v, probing is %v", b.open, b.probing)
	}
}
