package powercut

import (
	"bytes"
	"strconv"
)

// observed is what the world has seen of the gateway at some moment.
type observed struct {
	answered map[string]bool           // events whose callback was answered 200
	attempts map[string]map[string]int // by destination and event: the number of the last attempt that was begun
	ends     int                       // of its processes
}

func newObserved() *observed {
	return &observed{answered: map[string]bool{}, attempts: map[string]map[string]int{}}
}

// see notes what a call tells the world. What is being written to a connection counts as seen.
func (o *observed) see(m moment) {
	if m.name == processEnds {
		o.ends++
	}
	if m.ended || m.name != "write" && m.name != "writev" {
		return
	}
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
