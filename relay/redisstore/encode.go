package redisstore

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// meta holds what scripts need not understand of an event. Times are microseconds everywhere.
type meta struct {
	Stage       string       `json:"s,omitempty"`
	Code        string       `json:"c,omitempty"`
	Key         []byte       `json:"k"`
	Fingerprint []byte       `json:"f"`
	Origin      relay.Origin `json:"o"`
	ReceivedAt  int64        `json:"r"`
	Waiters     string       `json:"w,omitempty"` // of the earlier layout a field of its own
}

// appendText appends a string as JSON.
func appendText(b []byte, s string) []byte {
	text, _ := json.Marshal(s) // a string always marshals
	return append(b, text...)
}

// appendMeta appends the JSON of meta, by hand: it is done for every callback.
func appendMeta(b []byte, e *relay.Event, waiters string) []byte {
	b = append(b, '{')
	if e.Stage != "" {
		b = append(appendText(append(b, `"s":`...), e.Stage), ',')
	}
	if e.Code != "" {
		b = append(appendText(append(b, `"c":`...), e.Code), ',')
	}
	b = base64.StdEncoding.AppendEncode(append(b, `"k":"`...), e.Key[:])
	b = base64.StdEncoding.AppendEncode(append(b, `","f":"`...), e.Fingerprint[:])
	b = appendText(append(b, `","o":`...), string(e.Origin))
	b = strconv.AppendInt(append(b, `,"r":`...), e.ReceivedAt.UnixMicro(), 10)
	if waiters != "" {
		b = appendText(append(b, `,"w":`...), waiters)
	}
	return append(b, '}')
}

func decodeMeta(text string, e *relay.Event) (waiters string, err error) {
	var m meta
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return "", fmt.Errorf("event %s: %w", e.ID, err)
	}
	e.Stage, e.Code, e.Origin, e.ReceivedAt = m.Stage, m.Code, m.Origin, time.UnixMicro(m.ReceivedAt)
	copy(e.Key[:], m.Key)
	copy(e.Fingerprint[:], m.Fingerprint)
	return m.Waiters, nil
}

// decodeEvent returns the event of the earlier layout's fields m, k and s; nil without an error if it is gone.
func decodeEvent(source, id string, fields []any) (*relay.Event, error) {
	m, _ := fields[0].(string)
	if m == "" {
		return nil, nil
	}
	e := &relay.Event{ID: id, Source: source}
	e.TaskID, _ = fields[1].(string)
	seq, _ := fields[2].(string)
	e.Seq, _ = strconv.ParseInt(seq, 10, 64)
	_, err := decodeMeta(m, e)
	return e, err
}

// attempt is relay.Attempt as it is stored.
type attempt struct {
	At       int64  `json:"t"`
	Duration int64  `json:"d"`
	Status   int    `json:"s,omitempty"`
	Error    string `json:"e,omitempty"`
	Response []byte `json:"r,omitempty"`
}

// appendAttempt appends the JSON of an attempt, if there is one, by hand: it is done for every delivery.
func appendAttempt(b []byte, a *relay.Attempt) []byte {
	if a == nil {
		return b
	}
	b = slices.Grow(b, 80+len(a.Error)+base64.StdEncoding.EncodedLen(len(a.Response)))
	b = strconv.AppendInt(append(b, `{"t":`...), a.At.UnixMicro(), 10)
	b = strconv.AppendInt(append(b, `,"d":`...), a.Duration.Microseconds(), 10)
	if a.Status != 0 {
		b = strconv.AppendInt(append(b, `,"s":`...), int64(a.Status), 10)
	}
	if a.Error != "" {
		b = appendText(append(b, `,"e":`...), a.Error)
	}
	if len(a.Response) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"r":"`...), a.Response), '"')
	}
	return append(b, '}')
}

func decodeAttempt(text string) (relay.Attempt, error) {
	var a attempt
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return relay.Attempt{}, err
	}
	return relay.Attempt{
		At: time.UnixMicro(a.At), Duration: time.Duration(a.Duration) * time.Microsecond,
		Status: a.Status, Error: a.Error, Response: a.Response,
	}, nil
}

// encodeFile returns the line of a file in its event's field f, and how the lines of its field begin.
func encodeFile(f *relay.File) (begins, line []byte) {
	line, _ = json.Marshal(f) // strings and numbers always marshal
	field, _ := json.Marshal(f.Field)
	return line[:len(`{"field":`)+len(field)], line
}

// decodeFiles reads an event's field f, whose lines settle.lua has put the length of their beginning before.
func decodeFiles(text string) (files []relay.File, err error) {
	for line := range strings.Lines(text) {
		_, line, _ = strings.Cut(line, " ")
		var f relay.File
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			return nil, fmt.Errorf("unreadable record of a file: %w", err)
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b relay.File) int { return strings.Compare(a.Field, b.Field) })
	return files, nil
}

// held is the time at which a delivery stands among the due ones that waits for another one of its event, in microseconds.
const held = 9e15

// record is a delivery's record, as prelude.lua encodes it.
type record struct {
	state                  relay.State
	tries, replay, variant int
	accepted, seq          int64
	dead                   time.Time
	reason                 string
}

func decodeRecord(text string) (record, error) {
	f := strings.SplitN(text, " ", 11)
	if len(f) < 11 {
		return record{}, fmt.Errorf("unreadable record of a delivery: %.100q", text)
	}
	r := record{state: map[string]relay.State{
		statusPending: relay.StatePending, statusExpired: relay.StatePending, statusLeased: relay.StateInFlight,
		statusDelivered: relay.StateDelivered, statusDead: relay.StateDead,
	}[f[0]]}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(f[i], 10, 64) // written by the script, which knows only numbers here
		return n
	}
	r.tries, r.replay, r.variant, r.accepted, r.seq = int(number(2)), int(number(4)), int(number(5)), number(6), number(7)
	if at := number(8); at > 0 {
		r.dead = time.UnixMicro(at)
	}
	if r.state != relay.StateDead {
		return r, nil
	}
	r.reason = f[10]
	if task := number(9); task > 0 && int(task) <= len(r.reason) {
		r.reason = r.reason[task:]
	}
	return r, nil
}
