package api

import (
	"encoding/json"
	"time"
)

// Events is the answer of GET /relay/events, newest first. A page may be short, even empty, and still have a next cursor;
// the last page has an empty one.
type Events struct {
	Events []Event `json:"events"`
	Next   string  `json:"next"`
}

// Event is the answer of GET /relay/events/{id}, and a line of GET /relay/events.jsonl. Lists leave out EventDetails, and
// the attempts of deliveries.
type Event struct {
	ID         string     `json:"id"`
	Source     string     `json:"source"`
	TaskID     string     `json:"task_id"`
	Stage      string     `json:"stage"`
	Code       string     `json:"code"`
	Key        string     `json:"key"`    // the dedupe key, in hex
	Origin     string     `json:"origin"` // callback, recovered or operator
	ReceivedAt time.Time  `json:"received_at"`
	Duplicates int        `json:"duplicates"`
	Conflicts  int        `json:"conflicts"` // variants counted, of which 8 at most are kept
	State      string     `json:"state"`     // pending, delivered or dead
	Deliveries []Delivery `json:"deliveries"`
	*EventDetails
}

// EventDetails are those parts of an event that lists leave out.
type EventDetails struct {
	Variants []Variant         `json:"variants"`
	Headers  map[string]string `json:"headers"`
	// Payload is the callback's body where that is JSON, and a text that holds it otherwise.
	Payload json.RawMessage `json:"payload"`
	Files   []File          `json:"files"`
	// FilesTotal is how many files the payload names, where they are more than Files has.
	FilesTotal int `json:"files_total,omitempty"`
}

// Variant is the body of a callback of the same key that said something else.
type Variant struct {
	N          int               `json:"n"` // from 1 on
	ReceivedAt time.Time         `json:"received_at"`
	Headers    map[string]string `json:"headers"`
	Payload    json.RawMessage   `json:"payload"`
}

// Delivery is one event to one destination.
type Delivery struct {
	Destination string `json:"destination"`
	// State is pending, in_flight, delivered or dead, and in place of pending held, paused or orphaned, by what the
	// destination is now.
	State         string    `json:"state"`
	Tries         int       `json:"tries"`
	Replay        int       `json:"replay,omitempty"`  // how often it was replayed
	Variant       int       `json:"variant,omitempty"` // whose body it carries; absent for the first body
	Attempts      []Attempt `json:"attempts,omitzero"`
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"` // where it is pending or held
	Reason        string    `json:"reason,omitempty"`         // why it is dead, where its last attempt does not say it
	DeadAt        time.Time `json:"dead_at,omitzero"`
}

// Attempt is one try of a delivery.
type Attempt struct {
	At         time.Time `json:"at"`
	DurationMS int64     `json:"duration_ms"`
	Status     int       `json:"status"` // 0 where there was no response
	Error      string    `json:"error"`
	Response   string    `json:"response"` // cut at 4 KiB
}

// HeaderContentType is the header of a body's answer that holds the Content-Type of the callback. The answer's own is
// application/octet-stream, so that no browser shows a stranger's page under the address of the admin endpoint.
const HeaderContentType = "Relay-Content-Type"
