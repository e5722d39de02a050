package relay

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"
)

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

// DefaultDedupe are the fields of the dedupe key where a source names none.
var DefaultDedupe = []DedupeField{{Kind: DedupeTaskID}, {Kind: DedupeStage}, {Kind: DedupeCode}}
