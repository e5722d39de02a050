package caddymodule

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Duration is a duration as Caddy reads it ("90s", "72h", "30d", or nanoseconds) that also writes itself as text, so that
// an adapted Caddyfile stays readable.
type Duration time.Duration

// UnmarshalJSON reads what caddy.Duration reads.
func (d *Duration) UnmarshalJSON(b []byte) error { return (*caddy.Duration)(d).UnmarshalJSON(b) }

// MarshalJSON writes text without units that are zero: 72h, not 72h0m0s.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// or is d, or the default where d is not set.
func (d Duration) or(byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return time.Duration(d)
}

// Interface guards
var (
	_ json.Marshaler   = Duration(0)
	_ json.Unmarshaler = (*Duration)(nil)
)
