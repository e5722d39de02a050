package relay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Defaults of the settings, where a configuration is silent.
const (
	DefaultRetention           = 72 * time.Hour
	DefaultDeadLetterRetention = 720 * time.Hour
	DefaultDrain               = 10 * time.Second
	DefaultDedupeWindow        = 24 * time.Hour
	DefaultMaxBody             = 4 << 20
	DefaultAckWithin           = 10 * time.Second
	DefaultTimeout             = 15 * time.Second
	DefaultMaxInFlight         = 16
	DefaultBreakerFailures     = 3
	DefaultProbeInterval       = 30 * time.Second
	DefaultExpire              = 168 * time.Hour
	DefaultStoreTimeout        = 2 * time.Second

	// MaxBodyLimit is the most that max_body may be.
	MaxBodyLimit = 32 << 20
	// MaxAckWithin leaves a second of the 15 that the provider waits.
	MaxAckWithin = 14 * time.Second
)

// DefaultResponse is the answer to an accepted callback.
const DefaultResponse = `{"status":"received"}`

// Settings is one generation of configuration. It must not change after Engine.Push.
type Settings struct {
	Sources             map[string]*Source
	Retention           time.Duration
	DeadLetterRetention time.Duration
	Drain               time.Duration
	Logger              *slog.Logger
	Alerts              *Alerts // nil: there are none
	// OnDeadLetter, if set, is called for each delivery given up. It must not block.
	OnDeadLetter func(DeadLetter)
}

// Destination returns a destination of the settings; nil if there is none.
func (s *Settings) Destination(source, name string) *Destination {
	src := s.Sources[source]
	if src == nil {
		return nil
	}
	for _, d := range src.Destinations {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Hash returns a short text that differs where two configurations differ in what gateways that share a store should have in
// common.
func (s *Settings) Hash() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s.Sources)) {
		src := s.Sources[name]
		_, _ = fmt.Fprintln(h, name, cmp.Or(src.Body, payload.JSON), src.Dedupe, src.DedupeWindow, src.DeliverConflicts) // a hash takes all
		if r := src.Recover; r != nil {
			_, _ = fmt.Fprintln(h, r.Details, r.Base, r.After, r.Every, r.For)
		}
		for _, d := range src.Destinations {
			_, _ = fmt.Fprintln(h, d.Name, d.URL, d.Timeout, d.Retry, d.Permanent, d.Expire, d.OrderTask, d.Archiver != nil, d.Stages, d.BeforeDelivery, d.BodyArchived != nil)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}
