package powercut

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
)

// observed holds what the world has seen of the gateway up to some moment.
type observed struct {
	answered map[string]bool           // events whose callback was answered 200
	attempts map[string]map[string]int // by destination and event: the number of the last attempt that was begun
	passed   map[string]bool           // tasks of which a callback was sent to anybody, consumers or Redis
	ends     int                       // of its processes

	tails map[string][]byte // of what was written last to each connection
}

func newObserved() *observed {
	return &observed{answered: map[string]bool{}, attempts: map[string]map[string]int{}, passed: map[string]bool{}, tails: map[string][]byte{}}
}

// see notes what a call tells the world. What is being written to a connection counts as seen.
func (o *observed) see(m moment) {
	if m.name == processEnds {
		o.ends++
	}
	if m.ended || m.name != "write" && m.name != "writev" {
		return
	}
	o.seeTasks(m.args[0], m.data)
	head, _, ok := bytes.Cut(m.data, []byte("\r\n\r\n"))
	if !ok {
		return
	}
	first, rest, _ := bytes.Cut(head, []byte("\r\n"))
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/1.1 200")):
		if id := header(rest, "relay-event-id"); id != "" {
			o.answered[id] = true
		}
	case bytes.HasPrefix(first, []byte("POST /")):
		path, _, _ := bytes.Cut(first[len("POST /"):], []byte(" "))
		attempt, err := strconv.Atoi(header(rest, "relay-attempt"))
		if id := header(rest, "webhook-id"); id != "" && err == nil {
			of := o.attempts[string(path)]
			if of == nil {
				of = map[string]int{}
				o.attempts[string(path)] = of
			}
			of[id] = max(of[id], attempt)
		}
	}
}

var taskPattern = regexp.MustCompile(`"task_id":"(task-\d+)"`)

// seeTasks notes the tasks in what is written to a connection. A callback may be written in two parts.
func (o *observed) seeTasks(connection string, data []byte) {
	const longest = 64
	text := slices.Concat(o.tails[connection], data)
	for _, found := range taskPattern.FindAllSubmatch(text, -1) {
		o.passed[string(found[1])] = true
	}
	o.tails[connection] = text[max(0, len(text)-longest):]
}

// header returns a header of a request or an answer.
func header(head []byte, name string) string {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(key, []byte(name)) {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
