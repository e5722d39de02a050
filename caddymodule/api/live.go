package api

import (
	"encoding/json"
	"time"
)

// The types of a StreamEvent, which are the names of server-sent events.
const (
	StreamAccepted  = "accepted"
	StreamDelivered = "delivered"
	StreamRetrying  = "retrying"
	StreamDead      = "dead"
)

// StreamEvent is the data of one server-sent event of GET /relay/stream. Only an accepted event sets the id of the stream,
// after which a client resumes.
type StreamEvent struct {
	Type    string    `json:"type"`
	EventID string    `json:"event_id"`
	Source  string    `json:"source"`
	TaskID  string    `json:"task_id"`
	At      time.Time `json:"at,omitzero"`     // absent of a delivery that is shown from the store, which does not know it
	Stage   string    `json:"stage,omitempty"` // of what was accepted
	Code    string    `json:"code,omitempty"`  // of what was accepted
	// Earlier is set of an event, and of its deliveries, that was stored shortly before the one after which the stream begins: the
	// client may have missed it, or may have seen it. It sets no id.
	Earlier bool `json:"earlier,omitempty"`
	// Destination and what follows are absent where the event was accepted.
	Destination   string    `json:"destination,omitempty"`
	Attempt       int       `json:"attempt,omitempty"`
	Status        int       `json:"status,omitempty"`
	Error         string    `json:"error,omitempty"`
	DurationMS    int64     `json:"duration_ms,omitempty"`
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
}

// SendRequest is the body of POST /relay/send.
type SendRequest struct {
	Source string `json:"source"`
	// Body of the callback to send: JSON as it is, or a text that holds something else. Default: a sample of the source's
	// provider. It names no files if the source has an archive, since nobody serves them.
	Body        json.RawMessage   `json:"body,omitempty"`
	ContentType string            `json:"content_type,omitempty"` // default: by the source's `body`
	Headers     map[string]string `json:"headers,omitempty"`
}

// Sent is the answer of POST /relay/send: what the source's door has answered.
type Sent struct {
	Status    int    `json:"status"`
	EventID   string `json:"event_id,omitempty"`
	Duplicate bool   `json:"duplicate,omitempty"`
	Body      string `json:"body"`
}

// Doctor is the answer of GET /relay/doctor.
type Doctor struct {
	OK     bool    `json:"ok"` // no check has failed
	Checks []Check `json:"checks"`
}

// The states of a Check.
const (
	CheckOK      = "ok"
	CheckWarning = "warning"
	CheckError   = "error"
)

// Check is one thing that the doctor has looked at.
type Check struct {
	Name    string `json:"name"`              // what was checked, such as certificate
	Subject string `json:"subject,omitempty"` // of what, such as a host name or a destination
	State   string `json:"state"`             // ok, warning or error
	Message string `json:"message"`           // what was found, and where it is not ok what to do
}
