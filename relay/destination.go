package relay

import (
	"net/http"
	"net/url"
	"time"

	"golang.org/x/time/rate"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Signer signs what goes to a destination.
type Signer interface {
	// Sign returns the value of webhook-signature, by Standard Webhooks.
	Sign(id string, at time.Time, body []byte) (string, error)
}

// Destination is a downstream webhook of a source.
type Destination struct {
	Name      string
	URL       *url.URL
	When      Filter // nil: every event
	Timeout   time.Duration
	Retry     RetryPolicy
	Permanent []int // statuses that make a dead letter at once
	// Header is set on every attempt. A Host in it sets the request's host.
	Header      http.Header
	Signer      Signer // nil: not signed
	MaxInFlight int
	Rate        rate.Limit // deliveries per second; zero: not limited
	Breaker     BreakerPolicy
	Expire      time.Duration
	OrderTask   bool
	Transport   http.RoundTripper
	// Archiver makes this the source's archive instead of a webhook: an attempt stores the event's files.
	Archiver Archiver
	// Stages are those whose events an archive gets: the final ones, as others name files that are not done. Empty: all.
	Stages []string
	// BeforeDelivery holds the source's other deliveries of an event until the archive's is settled.
	BeforeDelivery bool
	// FileLife is how long a sender keeps the files that an archive fetches.
	FileLife time.Duration
	// BodyArchived is the source's archive, if the URLs of files in what is sent are to be those of the archive. Such a
	// delivery waits for the archive's.
	BodyArchived Archiver
	// Rewrite returns the body that is sent for an event's; nil: the event's, byte for byte.
	Rewrite func(body []byte) []byte
}

// BreakerPolicy sets when a destination is held. Zero failures: never.
type BreakerPolicy struct {
	Failures int
	Probe    time.Duration
}

// Filter is a destination's `when`.
type Filter interface {
	// Match reports whether the destination wants the event. An error explains why there is no answer, and quotes nothing of
	// the event; the event is then delivered, since a filter must never lose a callback by mistake.
	Match(v *View) (bool, error)
}

// View is an event as the filters of a source see it, one after the other.
type View struct {
	Event *Event
	// Format is the format of the event's body. Default: JSON.
	Format payload.Format
	// Decoded holds the event as a filter has read it, for the next one to use.
	Decoded any
}
