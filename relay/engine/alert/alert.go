package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// State distinguishes an alert that a condition holds from one that it is over.
type State string

// The states of an alert.
const (
	Firing   State = "firing"
	Resolved State = "resolved"
)

// maxTask bounds the task id of an alert, in bytes, as that of every callback.
const maxTask = 128

// Subject names the condition of an alert, and where it holds. Alerts of one subject are paced together.
type Subject struct {
	Condition   relay.Condition `json:"alert"`
	Source      string          `json:"source,omitempty"`      // empty where the condition is the gateway's
	Destination string          `json:"destination,omitempty"` // empty where the condition is a source's
}

// Task returns the task id of the alerts of a subject.
func (s Subject) Task() string {
	id := strings.TrimRight(string(s.Condition)+":"+s.Source+":"+s.Destination, ":")
	if len(id) <= maxTask {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return id[:maxTask-33] + "-" + hex.EncodeToString(sum[:16])
}

// Detail describes a condition.
type Detail struct {
	Reason  string `json:"reason"`
	EventID string `json:"event_id,omitempty"` // of an example, where there is one
	TaskID  string `json:"task_id,omitempty"`
	Count   int64  `json:"count,omitempty"` // of dead letters, failures, callbacks
}

// Alert is the body of an event of the source `relay`.
type Alert struct {
	Subject
	State State `json:"state"`
	Detail
	Since time.Time `json:"since"` // when this node saw the condition begin
	Node  string    `json:"node"`  // the host that saw it
	Link  string    `json:"link,omitempty"`
}

// what returns the subject in words.
func (s Subject) what() string {
	switch {
	case s.Destination != "":
		return fmt.Sprintf("destination %s of source %s", s.Destination, s.Source)
	case s.Source != "":
		return "source " + s.Source
	}
	return "the gateway"
}

// Text returns the alert in one paragraph.
func (a *Alert) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s, %s: %s", a.State, a.Condition, a.what(), a.Reason)
	if a.EventID != "" {
		fmt.Fprintf(&b, " (event %s, task %s)", a.EventID, a.TaskID)
	}
	fmt.Fprintf(&b, ", since %s, seen by %s", a.Since.UTC().Format(time.RFC3339), a.Node)
	if a.Link != "" {
		b.WriteString(" " + a.Link)
	}
	return b.String()
}

// escape makes text literal for Slack, for which these three characters begin or end markup.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// Slack returns the body of an alert as Slack and what is compatible with it expect it: {"text":"…"}. A body that is no
// alert, such as a sample that an operator sent, is the text itself.
func Slack(body []byte) []byte {
	var a Alert
	text := string(body)
	if json.Unmarshal(body, &a) == nil && a.Condition != "" {
		text = a.Text()
	}
	b, _ := json.Marshal(map[string]string{"text": escape.Replace(text)}) // strings always marshal
	return b
}
