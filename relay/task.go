package relay

import (
	"errors"
	"net/http"
	"net/url"
	"time"
)

// Defaults and limits of recovery.
const (
	DefaultRecoverAfter = 10 * time.Minute
	DefaultRecoverEvery = 30 * time.Second
	DefaultRecoverFor   = 24 * time.Hour

	// MaxExpected is how many tasks of a source may be expected at a time.
	MaxExpected = 100_000
)

// ErrTooManyTasks is why a task is not expected: MaxExpected of its source are already.
var ErrTooManyTasks = errors.New("too many tasks are expected")

// Recovery sets how a source asks for results whose callback has not come.
type Recovery struct {
	// Details is the endpoint that is asked, for whatever API a task was submitted to. If it is nil, the provider's endpoint
	// for the API is asked, below Base.
	Details *url.URL
	Base    *url.URL
	Header  http.Header   // of every question; it usually holds the provider's key
	After   time.Duration // how long a callback may take before the details are asked
	Every   time.Duration // the shortest pause between two questions about one task
	For     time.Duration // how long a task is expected in all, before it is given up
}

// DetailsReader is implemented by providers that answer questions about a task. It is safe for concurrent use.
type DetailsReader interface {
	// DetailsPath returns the path and query, below a base URL, where a task is asked for that was submitted to api: the path
	// of the submission without a leading slash and what stands before it in the provider's base, like
	// "api/v1/vocal-removal/generate". ok is false if the provider has no details of this API.
	DetailsPath(api, taskID string) (path string, ok bool)
	// Judge reads an answer about a task. api is the path of the submission, or that of the details endpoint where the
	// configuration names one.
	Judge(api, taskID string, status int, body []byte) Verdict
}

// DetailsPoster is implemented by a DetailsReader that is asked about the tasks of some APIs by POST.
type DetailsPoster interface {
	DetailsReader
	// DetailsBody returns the JSON to send to the path that DetailsPath returns for the API; nil: it is asked by GET.
	DetailsBody(api, taskID string) []byte
}

// Verdict holds what a task's details say.
type Verdict struct {
	Kind   VerdictKind
	Reason string // for people: the provider's own state or message
	// Body is the callback that the provider would have sent, where Kind is VerdictSuccess or VerdictFailed. It never holds the
	// URL that the callback was to go to.
	Body []byte
}

// VerdictKind is the kind of a Verdict.
type VerdictKind int

const (
	VerdictPending VerdictKind = iota // the task runs, or is not known yet
	VerdictSuccess                    // the task has a result
	VerdictFailed                     // the task ended without one
	VerdictAgain                      // the question was refused for now: ask later, and less often
	VerdictRefused                    // the question was refused, and asking again does not heal it
)
