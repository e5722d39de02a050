package relay

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// Origin is how an event came to be.
type Origin string

const (
	OriginCallback  Origin = "callback"  // a sender called
	OriginRecovered Origin = "recovered" // the details were polled, since no callback came
	OriginOperator  Origin = "operator"  // an operator took a rejected callback in
)

// Event is an accepted callback: one per dedupe key of its source.
type Event struct {
	// ID is a ULID, made before the first try to store the event and kept through every later one,
	// so that an accept whose outcome is unknown is recognised when it is tried again.
	ID string

	// Seq is the store's own sequence, which orders events. Zero until the event is stored.
	Seq int64

	Source string
	TaskID string
	Stage  string
	Code   string

	// Key is the dedupe key: the SHA-256 of a JSON array of the values of the source's dedupe fields.
	Key [32]byte

	// Fingerprint is the SHA-256 of what makes two callbacks of one key the same: code, stage and files.
	Fingerprint [32]byte

	Origin Origin

	// ReceivedAt is the gateway's wall clock, for people to read. No decision rests on it.
	ReceivedAt time.Time

	// Headers are the request's, without Authorization, Cookie and those a verifier reads, and with ProofHeader.
	Headers Headers

	// Body is the callback's body, byte for byte.
	Body []byte

	packed []byte // the headers, encoded
}

// Headers maps lowercase header names to their values, several of one name joined by ", ".
type Headers map[string]string

// ProofHeader is the entry of Headers with a text that is the same for all callbacks which can be made from one captured
// signature. There is none where the signature covers the body, or nothing is signed. Of the variants of an event no two
// have the same, or one captured signature could fill them.
const ProofHeader = "relay-proof"

// ConflictHeader is the entry of Headers with the id of the event that had the key of this one first, where this one says
// something else and was accepted all the same (Accept.Separate).
const ConflictHeader = "relay-conflict-with"

// Encode returns the form in which stores keep headers, a JSON object. An event has it made before it waits for the store
// (Event.Pack).
func (h Headers) Encode() []byte {
	if len(h) == 0 {
		return nil
	}
	size := 2
	for name, value := range h {
		size += len(name) + len(value) + len(`"":"",`)
	}
	b := append(make([]byte, 0, size), '{')
	for name, value := range h {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = payload.AppendQuoted(b, name)
		b = append(b, ':')
		b = payload.AppendQuoted(b, value)
	}
	return append(b, '}')
}

// Pack encodes the headers, which must not change afterwards, so that whoever stores the event need not.
func (e *Event) Pack() { e.packed = e.Headers.Encode() }

// EncodedHeaders returns the headers as Headers.Encode does.
func (e *Event) EncodedHeaders() []byte {
	if e.packed != nil {
		return e.packed
	}
	return e.Headers.Encode()
}

// DecodeHeaders reads what Encode wrote.
func DecodeHeaders(b []byte) (Headers, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var h Headers
	err := json.Unmarshal(b, &h)
	return h, err
}

// SeparateKey returns the dedupe key under which an accept with Separate keeps an event that is not the first of its key:
// a repetition of it has the same.
func (e *Event) SeparateKey() [32]byte {
	return sha256.Sum256(slices.Concat(e.Key[:], e.Fingerprint[:]))
}

// Separated returns the event as it is kept under its SeparateKey, beside the first one of its key.
func (e *Event) Separated(first string) *Event {
	s := *e
	s.Key = e.SeparateKey()
	s.Headers = maps.Clone(e.Headers)
	if s.Headers == nil {
		s.Headers = Headers{}
	}
	s.Headers[ConflictHeader] = first
	s.Pack()
	return &s
}

// ProofKey returns the key under which an accept with Separate remembers which fingerprint a signature was used for that
// does not cover the body; ok is false if there is none.
func (e *Event) ProofKey() (key [32]byte, ok bool) {
	proof := e.Headers[ProofHeader]
	if proof == "" {
		return key, false
	}
	return sha256.Sum256(slices.Concat(e.Key[:], []byte(proof))), true
}

// State is the stored state of a delivery. Held, paused and orphaned are not stored: they follow from the destination.
type State string

const (
	StatePending   State = "pending"   // waits for its turn, its due time or its predecessor
	StateInFlight  State = "in_flight" // leased
	StateDelivered State = "delivered" // a destination answered 2xx
	StateDead      State = "dead"      // given up; stays until redriven, discarded or past its retention

	StateHeld     State = "held"     // pending, while the destination's breaker is open
	StatePaused   State = "paused"   // pending, while an operator has paused the destination
	StateOrphaned State = "orphaned" // not delivered, and the destination is in no current config
)

// Attempt is one try of a delivery.
type Attempt struct {
	At       time.Time     // start, by the gateway's wall clock
	Duration time.Duration // until the response was read or the try failed
	Status   int           // the destination's status; 0 without a response
	Error    string        // why there was no response, or (beside a status) why its body could not be read; without the URL
	Response []byte        // the body of the response, cut at 4 KiB
}
