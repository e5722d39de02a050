package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// callback identifies what a sender sends: a body of its own, and one event.
type callback struct{ source, task, stage string }

// body returns the callback's body. It is derived from the callback, so that a consumer's can be compared.
func (c callback) body() string {
	if c.stage == "" {
		return fmt.Sprintf(`{"code":200,"msg":"ok","data":{"task_id":%q,"vocal_removal_info":{"vocal_url":"https://files.example.com/%s.mp3"}}}`, c.task, c.task)
	}
	return fmt.Sprintf(`{"code":200,"msg":"ok","data":{"callbackType":%q,"task_id":%q,"data":[{"id":"1","audio_url":"https://files.example.com/%s-%s.mp3"}]}}`,
		c.stage, c.task, c.task, c.stage)
}

// delivery identifies one event to one consumer.
type delivery struct{ event, consumer string }

// request holds a request that a consumer got.
type request struct {
	attempt, replay int
	arrived         time.Time
	ended           time.Time // when it was answered, cut off, or given up; zero while it is under way
	status          int       // of the answer; 0 where there was none
	sent            time.Time // when the answer was written, or it was clear that there would be none; zero before
	cut             bool      // by the consumer, before the gateway has an answer for certain
}

// ledger keeps what the driver has seen. It is safe for concurrent use.
type ledger struct {
	begun time.Time

	mu        sync.Mutex
	answered  map[callback]map[string]bool // the event ids that were answered by 200
	statuses  map[int]int                  // of answers; 0 where there was none
	slowest   time.Duration
	requests  map[delivery][]*request
	order     []delivery          // the same, by first arrival
	events    map[string]callback // that consumers got, by event id
	replays   map[delivery]int    // that were confirmed
	faults    []*fault
	pauses    []*pause
	gaps      []span         // in which the machine was too busy
	operated  map[string]int // operations of the operator, by name and status
	moods     map[mood]int   // how often a consumer took each
	protocols map[string]int // of requests at consumers
	violation map[string][]string
	count     map[string]int // of violations, by kind
}

// span is a time in which something lasted.
type span struct {
	from time.Time
	to   time.Time // zero while it lasts
}

// lastsBeyond reports whether something lasts beyond a time.
func (s span) lastsBeyond(t time.Time) bool { return s.to.IsZero() || s.to.After(t) }

// touches reports whether something lasted at some moment between two.
func (s span) touches(from, to time.Time) bool { return s.from.Before(to) && s.lastsBeyond(from) }

// fault is a time in which something was harmed.
type fault struct {
	span
	kind    string
	gateway int // which of them; -1: all that share what was harmed
}

// pause is a time in which a destination was paused: from the answer to the pause until its end was asked for.
type pause struct {
	span
	consumer string
}

func newLedger() *ledger {
	return &ledger{
		begun:    time.Now(),
		answered: map[callback]map[string]bool{}, statuses: map[int]int{},
		requests: map[delivery][]*request{}, events: map[string]callback{},
		replays: map[delivery]int{}, operated: map[string]int{}, moods: map[mood]int{}, protocols: map[string]int{},
		violation: map[string][]string{}, count: map[string]int{},
	}
}

// violates records a violation.
func (l *ledger) violates(kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violatesLocked(kind, format, args...)
}

func (l *ledger) violatesLocked(kind, format string, args ...any) {
	const kept = 5
	if l.count[kind]++; l.count[kind] <= kept {
		l.violation[kind] = append(l.violation[kind], fmt.Sprintf(format, args...))
	}
}

// answer records the answer to a sender, or that there was none.
func (l *ledger) answer(c callback, status int, event string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statuses[status]++
	if status != 200 {
		return
	}
	l.slowest = max(l.slowest, took)
	if l.answered[c] == nil {
		l.answered[c] = map[string]bool{}
	}
	l.answered[c][event] = true
}

// arrive records a request of a consumer.
func (l *ledger) arrive(d delivery, c callback, attempt, replay int) *request {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &request{attempt: attempt, replay: replay, arrived: time.Now()}
	if l.requests[d] == nil {
		l.order = append(l.order, d)
	}
	l.requests[d] = append(l.requests[d], r)
	l.events[d.event] = c
	return r
}

// end records how a request ended. The first record counts.
func (l *ledger) end(r *request, status int, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.ended.IsZero() {
		return
	}
	r.status, r.cut, r.ended = status, r.cut || cut, time.Now()
	if status == 0 {
		r.sent = r.ended
	}
}

// sent records that an answer was written, or that it could not be.
func (l *ledger) sent(r *request, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.sent, r.cut = time.Now(), r.cut || err != nil
}

// cutOff records that a consumer has closed its connections: what it has just answered may not have arrived.
func (l *ledger) cutOff(requests []*request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range requests {
		if r.sent.IsZero() || time.Since(r.sent) < 100*time.Millisecond {
			r.cut = true
		}
	}
}

// silenced records that nothing passes any more on a consumer's connections: what is under way there ends unseen, when the gateway
// gives up.
func (l *ledger) silenced(requests []*request) {
	l.cutOff(requests)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range requests {
		if r.ended.IsZero() {
			r.ended = r.arrived.Add(attemptTimeout)
		}
	}
}

// begin records that something is harmed, until the fault is over.
func (l *ledger) begin(kind string, gateway int) (over func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &fault{span{from: time.Now()}, kind, gateway}
	l.faults = append(l.faults, f)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		f.to = time.Now()
	}
}

// paused records that a destination is paused, until its end is asked for.
func (l *ledger) paused(consumer string) (over func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &pause{span{from: time.Now()}, consumer}
	l.pauses = append(l.pauses, p)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.to = time.Now()
	}
}

// wasPaused reports whether a destination was paused at some moment between two. The caller holds mu.
func (l *ledger) wasPaused(consumer string, from, to time.Time) bool {
	return slices.ContainsFunc(l.pauses, func(p *pause) bool {
		return p.consumer == consumer && p.touches(from, to)
	})
}

// operate records what became of an operation.
func (l *ledger) operate(name string, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.operated[fmt.Sprint(name, " ", status)]++
}

// took records that a consumer has a mood.
func (l *ledger) took(m mood) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moods[m]++
}

// came records by which protocol a request came.
func (l *ledger) came(protocol string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.protocols[protocol]++
}

// replayed records that a replay of a delivery was confirmed.
func (l *ledger) replayed(d delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replays[d]++
}

// during reports whether a fault of a gateway, or of what it shares, touches a time.
func (l *ledger) during(gateway int, from, to time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.faults, func(f *fault) bool {
		return (f.gateway == gateway || f.gateway < 0 || gateway < 0) && f.touches(from, to)
	})
}

// suspended reports whether a gateway was suspended or away at or after a time, or the machine too busy: nobody answers meanwhile.
func (l *ledger) suspended(gateway int, since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.starved(since, time.Now()) || slices.ContainsFunc(l.faults, func(f *fault) bool {
		return f.gateway == gateway && (f.kind == "stop" || f.kind == "kill" || f.kind == "descriptors") && f.lastsBeyond(since)
	})
}

// anyDelivery returns a delivery that one of the consumers got.
func (l *ledger) anyDelivery(rng *rand.Rand, consumers ...string) (delivery, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range 20 {
		if len(l.order) == 0 {
			break
		}
		if d := l.order[rng.IntN(len(l.order))]; slices.Contains(consumers, d.consumer) {
			return d, true
		}
	}
	return delivery{}, false
}
