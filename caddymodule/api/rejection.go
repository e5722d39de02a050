package api

import (
	"encoding/json"
	"time"
)

// Rejections is the answer of GET /relay/rejections: those that the gateway which answers keeps in memory, newest first.
// The last page has an empty cursor.
type Rejections struct {
	Rejections []Rejection `json:"rejections"`
	Next       string      `json:"next"`
}

// Rejection is a callback that was refused.
type Rejection struct {
	ID     string    `json:"id"`
	Source string    `json:"source"`
	At     time.Time `json:"at"`
	// Result is how it was counted: denied, unverified, invalid, too_large or unavailable.
	Result    string            `json:"result"`
	Status    int               `json:"status"`             // what the sender was answered
	Code      string            `json:"code"`               // the same for programs
	Message   string            `json:"message"`            // why, in words
	Remote    string            `json:"remote"`             // the connection's address
	Client    string            `json:"client"`             // the sender's, behind trusted proxies
	TaskID    string            `json:"task_id"`            // empty where it could not be read
	Bytes     int64             `json:"bytes"`              // of the body, as announced where it was not read; 0 if that is unknown
	CanAccept bool              `json:"can_accept"`         // its whole body is kept, so that it can be accepted after all
	Accepted  string            `json:"accepted,omitempty"` // id of the event that it has become, or repeats
	Headers   map[string]string `json:"headers"`            // without those that carry secrets
	// Payload is the body where it is kept: as it is if that is JSON, and as a text otherwise.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// RejectionAccepted is the answer of POST /relay/rejections/{id}/accept.
type RejectionAccepted struct {
	EventID string `json:"event_id"`
	// Result is accepted, unmatched, duplicate, conflict or spooled.
	Result string `json:"result"`
}
