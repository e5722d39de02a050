package relay

import (
	"net/http"
	"net/url"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Callback is one inbound request, as verifiers see it.
type Callback struct {
	Header http.Header
	Query  url.Values
	Body   []byte // nil before it is read
	TaskID string // empty before the body is read, and where the body names none
	// Format is the format of the body. Default: JSON.
	Format payload.Format
	Now    time.Time
	// Deadline is when Verify must have returned, so that enough time is left for the store; zero: it may wait.
	Deadline time.Time

	// A verifier sets BodyCovered if what it checks covers the body, and else Proof to a text that is the same for every
	// request which can be made from one captured signature.
	BodyCovered bool
	Proof       string
}

// The results of a callback, as caddy_relay_callbacks_total has them.
const (
	ResultAccepted  = "accepted"
	ResultUnmatched = "unmatched"
	ResultDuplicate = "duplicate"
	ResultConflict  = "conflict"
	ResultSpooled   = "spooled"
	ResultDenied    = "denied"
	// ResultDeniedObserved is counted beside another result: the caller would have been denied, if that were not only observed.
	ResultDeniedObserved = "denied_observed"
	ResultUnverified     = "unverified"
	ResultInvalid        = "invalid"
	ResultTooLarge       = "too_large"
	ResultUnavailable    = "unavailable"
)

// Results are all results of a callback.
var Results = []string{
	ResultAccepted, ResultUnmatched, ResultDuplicate, ResultConflict, ResultSpooled,
	ResultDenied, ResultDeniedObserved, ResultUnverified, ResultInvalid, ResultTooLarge, ResultUnavailable,
}
