package api

import "errors"

// ReplayEventRequest is the body of POST /relay/events/{id}/replay. The body may be left out.
type ReplayEventRequest struct {
	// Destinations are those whose settled deliveries are replayed. Default: all that the event has.
	Destinations []string `json:"destinations,omitempty"`
	// Variant is the number of the variant to send. Default: 0, the first body.
	Variant int `json:"variant,omitempty"`
}

// ReplayRequest is the body of POST /relay/replay. It selects the events that match all of its fields: Source, and at
// least one of the others.
type ReplayRequest struct {
	Source string `json:"source,omitempty"`
	// Destination is the only one that is replayed. An event that has no delivery for it gets one, if the destination's
	// `when` wants it. Default: the deliveries that each event has.
	Destination string `json:"destination,omitempty"`
	TaskID      string `json:"task_id,omitempty"`
	State       string `json:"state,omitempty"` // of the event: pending, delivered or dead
	Since       string `json:"since,omitempty"` // RFC 3339; when it was received, inclusive
	Until       string `json:"until,omitempty"` // RFC 3339; exclusive
	// Rate spaces the deliveries: a number a second, or n/s, n/m or n/h. Default: all are due at once.
	Rate Rate `json:"rate,omitempty"`
	// DryRun counts what would be replayed, and replays nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Replayed is the answer of both replays. Skipped counts the deliveries that were not settled, that had been replayed
// since the request was made, or that have nowhere to go.
type Replayed struct {
	Replayed int `json:"replayed"`
	Skipped  int `json:"skipped"`
}

// Selection selects dead letters: those that match all of its fields. All of them are selected by All alone, never by
// leaving something out.
type Selection struct {
	All         True   `json:"all,omitempty"`
	Source      string `json:"source,omitempty"`
	Destination string `json:"destination,omitempty"`
	Since       string `json:"since,omitempty"` // RFC 3339; when it was given up, inclusive
	Until       string `json:"until,omitempty"` // RFC 3339; exclusive
}

// True is a field that is true or absent: a false one may be what somebody else's mistake has left.
type True bool

// UnmarshalJSON reads true.
func (t *True) UnmarshalJSON(b []byte) error {
	if string(b) != "true" {
		return errors.New("expected true, or no such field")
	}
	*t = true
	return nil
}

// RedriveRequest is the body of POST /relay/dead-letters/redrive.
type RedriveRequest struct {
	Selection
	// Rate spaces the deliveries: a number a second, or n/s, n/m or n/h. Default: all are due at once.
	Rate Rate `json:"rate,omitempty"`
}

// Redriven is the answer of a redrive.
type Redriven struct {
	Redriven int `json:"redriven"`
}

// DiscardRequest is the body of POST /relay/dead-letters/discard.
type DiscardRequest struct {
	Selection
	// Orphaned adds deliveries that wait for a destination which no config has. It goes with neither Since nor Until, and
	// is refused while gateways that share the store have different configs.
	Orphaned bool `json:"orphaned,omitempty"`
}

// Discarded is the answer of a discard.
type Discarded struct {
	Discarded int `json:"discarded"`
}

// Paused is the answer of a pause and of a resume.
type Paused struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Paused      bool   `json:"paused"`
}

// ReassignRequest is the body of POST /relay/destinations/{source}/{name}/reassign.
type ReassignRequest struct {
	To string `json:"to"` // a configured destination of the same source
}

// Reassigned is the answer of a reassign. Left counts the deliveries that stay where they are: what is in flight, what
// waits behind that in the order of its task, and what the other destination has a delivery of already.
type Reassigned struct {
	Reassigned int `json:"reassigned"`
	Left       int `json:"left"`
}
