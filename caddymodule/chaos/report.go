package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report holds the outcome of a run.
type Report struct {
	Options
	Callbacks  int // answered by 200
	Tries      map[int]int
	Slowest    time.Duration // of the answers
	Requests   int           // of consumers
	Repeated   int           // of them, beyond the first of an attempt
	RepeatedBy time.Duration // after the first of its attempt, the latest, unless its destination was paused meanwhile
	Replays    int           // confirmed
	Protocols  map[string]int
	Moods      map[mood]int // of consumers
	Faults     map[string]int
	Without    []string // faults that the machine or the store does not allow
	Operations map[string]int
	Starved    int // how often the machine was too busy to tell what is late
	Violations []string
	When       []string // something was harmed, or the machine too busy: what may explain a violation
	Took       time.Duration
}

// Failed reports whether anything was violated.
func (r Report) Failed() bool { return len(r.Violations) > 0 }

// String returns the verdict, with the violations below it.
func (r Report) String() string {
	verdict := "nothing lost, nothing forgotten"
	if r.Failed() {
		verdict = "VIOLATED"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s seed %d: %s: %d callbacks answered 200 (answers %v, the slowest 200 after %s), %d requests at consumers (%d repeat an attempt, %s after it at most; %v), which were %v, %d replays, faults %v (without %v), operations %v, %d times without the processor, in %s",
		r.Store, r.Seed, verdict, r.Callbacks, r.Tries, r.Slowest.Round(time.Millisecond), r.Requests, r.Repeated, r.RepeatedBy.Round(time.Millisecond), r.Protocols, r.Moods, r.Replays, r.Faults, r.Without, r.Operations, r.Starved, r.Took.Round(time.Second))
	for _, v := range r.Violations {
		text.WriteString("\n\t" + v)
	}
	if r.Failed() && len(r.When) > 0 {
		text.WriteString("\n\twhile: " + strings.Join(r.When, ", "))
	}
	return text.String()
}

// report collects the outcome.
func (w *world) report() Report {
	l := w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Report{
		Options: w.Options, Callbacks: len(l.answered), Tries: l.statuses, Slowest: l.slowest,
		Protocols: l.protocols, Moods: l.moods, Faults: map[string]int{}, Without: w.without, Operations: l.operated, Took: time.Since(l.begun), Starved: len(l.gaps),
	}
	for _, n := range l.replays {
		r.Replays += n
	}
	for _, f := range l.faults {
		r.Faults[f.kind]++
		r.When = append(r.When, l.name(fmt.Sprintf("%s of %d", f.kind, f.gateway), f.span))
	}
	for _, gap := range l.gaps {
		r.When = append(r.When, l.name("busy", gap))
	}
	for d, requests := range l.requests {
		r.Requests += len(requests)
		for i, later := range requests[1:] {
			first := requests[i]
			if later.attempt != first.attempt || later.replay != first.replay {
				continue
			}
			r.Repeated++
			if !l.wasPaused(d.consumer, first.arrived, later.arrived) {
				r.RepeatedBy = max(r.RepeatedBy, later.arrived.Sub(first.arrived))
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(l.count)) {
		r.Violations = append(r.Violations, fmt.Sprintf("%s: %d", kind, l.count[kind]))
		r.Violations = append(r.Violations, l.violation[kind]...)
	}
	return r
}

// name returns what lasted, with its time.
func (l *ledger) name(what string, s span) string {
	return fmt.Sprintf("%s from %s to %s", what, l.at(s.from), l.at(s.to))
}
