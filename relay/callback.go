package relay

import (
	"net/http"
	"net/url"
	"time"
)

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

// The results of a callback, as caddy_relay_callbacks_total has them.
const (
	ResultAccepted    = "accepted"
	ResultUnmatched   = "unmatched"
	ResultDuplicate   = "duplicate"
	ResultConflict    = "conflict"
	ResultSpooled     = "spooled"
	ResultDenied      = "denied"
	ResultUnverified  = "unverified"
	ResultInvalid     = "invalid"
	ResultTooLarge    = "too_large"
	ResultUnavailable = "unavailable"
)

// Results are all results of a callback.
var Results = []string{
	ResultAccepted, ResultUnmatched, ResultDuplicate, ResultConflict, ResultSpooled,
	ResultDenied, ResultUnverified, ResultInvalid, ResultTooLarge, ResultUnavailable,
}
