package provider

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

// answer holds what was said about a task.
type answer struct {
	kie    bool
	taskID string
	data   fields
	state  string // in upper case
	failed bool   // the callback to make of it is that of a failure
}

// detailsPlan checks what decode takes for granted.
var detailsPlan, errDetailsPlan = payload.NewPlan(payload.Wants{
	Values: []string{"code", "msg", "data", "data.taskId", "data.task_id", "data.state", "data.status", "data.successFlag", "data.success_flag"},
})

// Judge implements relay.DetailsReader.
func (f *family) Judge(path, taskID string, status int, body []byte) relay.Verdict {
	if status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
		return relay.Verdict{Kind: relay.VerdictAgain, Reason: fmt.Sprintf("HTTP status %d", status)}
	}
	top, err := decode(body)
	if err != nil || top.text("code") == "" && top.object("data") == nil {
		return refusal(status, err)
	}
	a, _ := findAPI(path)
	if a == nil {
		return relay.Verdict{Kind: relay.VerdictRefused, Reason: "the details of this API are not known"}
	}
	v, called := f.judge(a, taskID, top)
	hidden := findSecrets(nil, map[string]any(top), maxNested)
	v.Reason = shorten(hidden.clean(v.Reason))
	if called != nil {
		kept, _ := hidden.strip(called, maxNested)
		if v.Body, err = marshal(kept); err != nil {
			return relay.Verdict{Kind: relay.VerdictAgain, Reason: err.Error()}
		}
	}
	return v
}

// judge reads an answer that is JSON. It returns the callback, too, where the task has ended.
func (f *family) judge(a *api, taskID string, top fields) (relay.Verdict, map[string]any) {
	code, msg := top.text("code"), top.text("msg")
	asked := strings.TrimSpace("code " + code + ": " + msg)
	data := top.object("data")
	switch code {
	case "401", "403", "404", "505": // 505: the feature is disabled, and no key or time of ours enables it
		return relay.Verdict{Kind: relay.VerdictRefused, Reason: asked}, nil
	case "429", "433", "451", "455", "500": // about the query, whatever the data say
		return relay.Verdict{Kind: relay.VerdictAgain, Reason: asked}, nil
	case "422": // "recordInfo is null", and a 4K request that is repeated
		if a.details != veo4K {
			return relay.Verdict{Reason: asked}, nil
		}
	case "200", "":
	default:
		if data == nil {
			return relay.Verdict{Kind: relay.VerdictAgain, Reason: asked}, nil
		}
	}
	if data == nil {
		return relay.Verdict{Reason: "the task is not known yet"}, nil
	}
	if id := data.text("taskId"); id != "" && id != taskID {
		return relay.Verdict{Reason: "the answer is about another task"}, nil
	}
	said := &answer{kie: f.kie, taskID: taskID, data: data}
	v := f.decide(a, said)
	if v.Reason == "" {
		v.Reason = asked
	}
	if v.Kind != relay.VerdictSuccess && v.Kind != relay.VerdictFailed {
		return v, nil
	}
	said.failed = v.Kind == relay.VerdictFailed
	return v, a.form(said).object(said)
}

// decide returns the verdict by the state alone: error codes are seen beside success, too.
func (f *family) decide(api *api, a *answer) relay.Verdict {
	for _, name := range api.state {
		if a.state = a.data.text(name); a.state != "" {
			break
		}
	}
	reason := strings.TrimSuffix(a.state+": "+a.message(), ": ")
	a.state = strings.ToUpper(a.state)
	kind := relay.VerdictPending // what the table does not know included
	switch {
	case len(api.state) == 0:
		if f.hasFiles(api, a) {
			kind = relay.VerdictSuccess
		}
	case len(a.state) == 1 && '0' <= a.state[0] && a.state[0] <= '9':
		kind = numeric(api, int(a.state[0]-'0'))
	case a.state == "SUCCESS" || a.state == api.success && api.success != "":
		kind = relay.VerdictSuccess
	case a.state == "CALLBACK_EXCEPTION":
		// The provider's callback failed, be it the last one or one before. The task goes on, or ended, by what is there.
		switch {
		case api.whole != nil && api.whole(a), api.whole == nil && f.hasFiles(api, a):
			kind = relay.VerdictSuccess
		case a.errorCode() != "":
			kind = relay.VerdictFailed
		}
	case strings.HasSuffix(a.state, "FAILED") || strings.HasSuffix(a.state, "FAIL") || strings.HasSuffix(a.state, "_ERROR"):
		kind = relay.VerdictFailed
	}
	return relay.Verdict{Kind: kind, Reason: reason}
}

// hasFiles reports whether the callback of the answer's result would name a file.
func (f *family) hasFiles(api *api, a *answer) bool {
	body, err := marshal(api.form(a).object(a))
	if err != nil {
		return false
	}
	r, err := f.Read(body, nil, relay.ReadOptions{})
	return err == nil && r.FilesTotal > 0
}

func numeric(api *api, state int) relay.VerdictKind {
	numbers := api.numbers
	if numbers == "" {
		numbers = usualNumbers
	}
	if state < len(numbers) {
		switch numbers[state] {
		case 's':
			return relay.VerdictSuccess
		case 'f':
			return relay.VerdictFailed
		}
	}
	return relay.VerdictPending
}

// errorCode returns the code of a failure, a status code like those of callbacks; empty: none is there.
func (a *answer) errorCode() string {
	for _, name := range []string{"errorCode", "failCode"} {
		code := a.data.text(name)
		if n, err := strconv.Atoi(code); err == nil && n >= 300 && n <= 999 {
			return strconv.Itoa(n)
		}
	}
	return ""
}

func (a *answer) message() string {
	for _, name := range []string{"errorMessage", "failMsg"} {
		if msg := a.data.text(name); msg != "" {
			return msg
		}
	}
	return ""
}

// refusal returns the verdict on an answer that has no code of the provider's.
func refusal(status int, err error) relay.Verdict {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return relay.Verdict{Kind: relay.VerdictRefused, Reason: fmt.Sprintf("HTTP status %d", status)}
	}
	reason := fmt.Sprintf("HTTP status %d without a code", status)
	if err != nil {
		reason = fmt.Sprintf("HTTP status %d: %v", status, err)
	}
	return relay.Verdict{Kind: relay.VerdictAgain, Reason: reason}
}

// decode returns the object that a body is, if everybody reads it alike and no deeper than payload.MaxDepth.
func decode(body []byte) (top fields, err error) {
	if errDetailsPlan != nil {
		return nil, errDetailsPlan
	}
	doc, err := payload.Document(payload.JSON, body)
	if err != nil {
		return nil, err
	}
	if err := detailsPlan.Read(doc, new(payload.Found)); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber() // a float64 cannot hold every one
	if err := d.Decode(&top); err != nil {
		return nil, err
	}
	return top, nil
}

// maxReason bounds a reason, in bytes: it appears in lists.
const maxReason = 200

func shorten(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}
