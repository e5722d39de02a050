package relay

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/time/rate"
)

// Defaults of the settings, where a configuration is silent.
const (
	DefaultRetention           = 72 * time.Hour
	DefaultDeadLetterRetention = 720 * time.Hour
	DefaultDrain               = 10 * time.Second
	DefaultDedupeWindow        = 24 * time.Hour
	DefaultMaxBody             = 1 << 20
	DefaultAckWithin           = 10 * time.Second
	DefaultTimeout             = 15 * time.Second
	DefaultMaxInFlight         = 16
	DefaultBreakerFailures     = 3
	DefaultProbeInterval       = 30 * time.Second
	DefaultExpire              = 168 * time.Hour
	DefaultStoreTimeout        = 2 * time.Second

	// MaxBodyLimit is the most that max_body may be.
	MaxBodyLimit = 8 << 20
	// MaxAckWithin leaves a second of the 15 that the provider waits.
	MaxAckWithin = 14 * time.Second
)

// DefaultResponse is what an accepted callback is answered with.
const DefaultResponse = `{"status":"received"}`

// Settings is one generation of configuration. It must not change after Engine.Push.
type Settings struct {
	Sources             map[string]*Source
	Retention           time.Duration
	DeadLetterRetention time.Duration
	Drain               time.Duration
	Logger              *slog.Logger
	// OnDeadLetter, if set, is called for each delivery given up. It must not block.
	OnDeadLetter func(DeadLetter)
}

// Source is one kind of inbound callback.
type Source struct {
	Name      string
	Provider  Provider
	Verifiers []Verifier
	// Allow lists who may call; empty: everyone.
	Allow        []netip.Prefix
	Dedupe       []DedupeField
	DedupeWindow time.Duration
	MaxBody      int64 // bytes
	AckWithin    time.Duration
	Response     Response
	Destinations []*Destination
	Logger       *slog.Logger
}

// Open says that anyone may call: there is neither an address list nor a verifier.
func (s *Source) Open() bool { return len(s.Allow) == 0 && len(s.Verifiers) == 0 }

// Response is the answer to an accepted callback.
type Response struct {
	Status      int
	Body        string
	ContentType string
}

// DedupeField is one field of the dedupe key.
type DedupeField struct {
	Kind DedupeKind
	Name string // the path or the header's name, for those kinds
}

// DedupeKind says where a field of the dedupe key comes from.
type DedupeKind string

const (
	DedupeTaskID DedupeKind = "task_id"
	DedupeStage  DedupeKind = "stage"
	DedupeCode   DedupeKind = "code"
	DedupePath   DedupeKind = "path"   // a gjson path into the body; it must be there
	DedupeHeader DedupeKind = "header" // a request header; it must be there
)

// Task is what a provider reads from a callback's body.
type Task struct {
	ID    string
	Stage string // empty where the body has none
	Code  string // as text: 200 and "200" are equal; empty where the body has none
	Files []string
}

// Provider knows the shape of a provider's callbacks.
type Provider interface {
	// Identify reads task, stage, code and files from a body that is valid JSON with an object at its top, nested no
	// deeper than MaxDepth. An error says, for the sender, what is missing or malformed; the task then has its id, if that
	// could be read.
	Identify(body []byte) (Task, error)
	// Paths are the gjson paths that Identify reads. A key on one of them must not stand twice in its object.
	Paths() []string
}

// Verifier checks who calls.
type Verifier interface {
	// Verify returns nil if the callback comes from who holds the secret. The error is logged, and must name neither
	// secret nor signature. It wraps ErrUndecided where the callback should be sent again, instead of being refused.
	Verify(c *Callback) error
	// NeedsBody is false for a verifier that can decide before the body is read.
	NeedsBody() bool
	// Headers are those that carry secrets or signatures. They are not stored.
	Headers() []string
}

// ErrUndecided is why a verifier neither lets a callback pass nor refuses it: something that it needs is away.
var ErrUndecided = errors.New("the callback cannot be verified now")

// Callback is one inbound request, as verifiers see it.
type Callback struct {
	Header http.Header
	Query  url.Values
	Body   []byte // nil before it is read
	TaskID string // empty before the body is read, and where the body names none
	Now    time.Time
	// Deadline is when Verify must have returned, so that enough time is left for the store; zero: it may wait.
	Deadline time.Time
}

// Signer signs what goes to a destination.
type Signer interface {
	// Sign gives the value of webhook-signature, by Standard Webhooks.
	Sign(id string, at time.Time, body []byte) (string, error)
}

// Destination is a downstream webhook of a source.
type Destination struct {
	Name      string
	URL       *url.URL
	When      *When // nil: every event
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
}

// BreakerPolicy says when a destination is held. Zero failures: never.
type BreakerPolicy struct {
	Failures int
	Probe    time.Duration
}
