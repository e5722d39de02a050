package relay

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Source is one kind of inbound callback.
type Source struct {
	Name      string
	Provider  Provider
	Body      payload.Format // default: JSON
	Verifiers []Verifier
	// Allow and AllowFrom list who may call; if both are empty, everyone may.
	Allow     []netip.Prefix
	AllowFrom []AddressList
	// Observe lets others call, too: they are counted and logged.
	Observe      bool
	Dedupe       []DedupeField
	DedupeWindow time.Duration
	// DeliverConflicts makes a callback that has the key of an earlier one and says something else an event of its own.
	// Otherwise it is kept as a variant of the earlier one, and not delivered.
	DeliverConflicts bool
	MaxBody          int64 // bytes
	AckWithin        time.Duration
	Response         Response
	Destinations     []*Destination
	Recover          *Recovery // nil: nothing is recovered
	Logger           *slog.Logger
}

// Restricted reports whether there is a list of who may call.
func (s *Source) Restricted() bool { return len(s.Allow)+len(s.AllowFrom) > 0 }

// Open reports whether anyone may call: there is neither a list of addresses that is enforced nor a verifier. Nobody calls
// the built-in source.
func (s *Source) Open() bool {
	return s.Name != AlertSource && (s.Observe || !s.Restricted()) && len(s.Verifiers) == 0
}

// ByKey reports whether the dedupe key does not name the task, so that callbacks of one key may be of different tasks.
func (s *Source) ByKey() bool {
	return len(s.Dedupe) > 0 && !slices.ContainsFunc(s.Dedupe, func(f DedupeField) bool { return f.Kind == DedupeTaskID })
}

// AddressList lists addresses, which may be others at each request. It is safe for concurrent use, and fast.
type AddressList interface {
	GetIPRanges(r *http.Request) []netip.Prefix
}

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

// DedupeKind is where a field of the dedupe key comes from.
type DedupeKind string

const (
	DedupeTaskID DedupeKind = "task_id"
	DedupeStage  DedupeKind = "stage"
	DedupeCode   DedupeKind = "code"
	DedupePath   DedupeKind = "path"   // a gjson path into the body; it must be there
	DedupeHeader DedupeKind = "header" // a request header; it must be there
)

// Task is the task that a callback is about.
type Task struct {
	ID    string
	Stage string // empty where the body has none
	Code  string // as text: 200 and "200" are equal; empty where the body has none
	// Files are URLs as they came, which may hold raw spaces or non-ASCII.
	Files []string
	// FilesTotal is how many files the body names. There are fewer Files where there were too many to keep.
	FilesTotal int
}

// Provider knows the shape of a provider's callbacks. It is safe for concurrent use.
type Provider interface {
	// Read checks a body and reads from it, in one pass, what it is about. An error names, for the sender, what is missing
	// or malformed; the reading then has the task's id and files, if those could be read.
	Read(body []byte, header http.Header, opts ReadOptions) (Reading, error)
	// Sample returns a callback of a task as its sender might write it, for a first try of a source. It names files only if
	// withFiles is set, since nobody serves them. Read may refuse it where a path of the configuration is too intricate to
	// make a body for.
	Sample(taskID string, withFiles bool, opts ReadOptions) (body []byte, header http.Header)
}

// ReadOptions are a source's settings for the reading of its callbacks.
type ReadOptions struct {
	// Format is the format of a body. Default: JSON.
	Format payload.Format
	// Paths are gjson paths whose values are read, too. They must be there, and must have passed payload.CheckPath.
	Paths []string
}

// Reading holds what a provider reads from a callback.
type Reading struct {
	Task
	// URLs are the task's files and, after them, those that are no files and yet tell two callbacks apart, like streams.
	URLs []string
	// Cut is set if the body names more URLs than were read.
	Cut    bool
	Values []string // at ReadOptions.Paths, as text
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
