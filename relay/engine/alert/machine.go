package alert

import (
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// again is how long an alert that could not be stored waits for its next try.
const again = 5 * time.Second

// Fact is a condition that holds.
type Fact struct {
	Subject
	Detail
}

// counted are conditions that pass by themselves only when an operator acts or the next callback comes, if ever. They are
// repeated when their count has grown, so that one old dead letter does not alert for a month.
var counted = []relay.Condition{relay.ConditionDeadLetter, relay.ConditionUnverified, relay.ConditionDenied, relay.ConditionOverdue}

// machine decides which alerts are due. It has neither clock, lock nor goroutine.
type machine struct {
	entries map[string]*entry // by task
	known   int               // how many subjects there have been
}

// entry is the state of a subject.
type entry struct {
	fact     Fact
	since    time.Time
	holds    bool
	owed     bool      // an alert that could not be stored yet
	open     string    // the id of the alert that says that it holds, and is not resolved; else empty
	spooled  bool      // the open alert may not be in the store yet
	told     int64     // the count of the open alert
	next     time.Time // no alert that it holds before
	resolve  time.Time // no resolved one before
	sequence int       // orders subjects by when they came up
}

// due is an alert to send.
type due struct {
	task    string
	state   State
	fact    Fact
	since   time.Time
	open    string // of a resolved one: what it resolves
	spooled bool
}

// observe notes which conditions hold, and forgets what is over and done with.
func (m *machine) observe(now time.Time, facts []Fact) {
	holding := make(map[string]bool, len(facts))
	for _, f := range facts {
		task := f.Task()
		holding[task] = true
		e := m.entries[task]
		if e == nil {
			e = m.add(task)
		}
		if !e.holds {
			if e.open == "" {
				e.since, e.told = now, 0
			}
			e.holds, e.resolve = true, time.Time{}
		}
		e.fact = f
	}
	for task, e := range m.entries {
		e.holds = holding[task]
		if !e.holds && !e.owed && e.open == "" && !now.Before(e.next) {
			delete(m.entries, task)
		}
	}
}

// adopt notes an open alert of an earlier process, or of another node. It is resolved unless the condition holds again by
// then: what a breaker or a verifier has to say comes only with the next callbacks.
func (m *machine) adopt(f Fact, since time.Time, id string, resolve time.Time) {
	if m.entries[f.Task()] == nil {
		e := m.add(f.Task())
		e.fact, e.since, e.open, e.told, e.resolve = f, since, id, f.Count, resolve
	}
}

func (m *machine) add(task string) *entry {
	if m.entries == nil {
		m.entries = map[string]*entry{}
	}
	m.known++
	e := &entry{sequence: m.known}
	m.entries[task] = e
	return e
}

// due returns the alerts that are due, those first that came up first.
func (m *machine) due(now time.Time) (list []due) {
	type ordered struct {
		due
		sequence int
	}
	var all []ordered
	for task, e := range m.entries {
		d := due{task: task, fact: e.fact, since: e.since}
		switch {
		case (e.holds && e.news() || e.owed) && !now.Before(e.next):
			d.state = Firing
		case !e.holds && !e.owed && e.open != "" && !now.Before(e.resolve):
			d.state, d.open, d.spooled = Resolved, e.open, e.spooled
		default:
			continue
		}
		all = append(all, ordered{d, e.sequence})
	}
	slices.SortFunc(all, func(a, b ordered) int { return a.sequence - b.sequence })
	for _, o := range all {
		list = append(list, o.due)
	}
	return list
}

// hasten lets no alert wait longer than for every, which may have been shortened.
func (m *machine) hasten(now time.Time, every time.Duration) {
	for _, e := range m.entries {
		if soon := now.Add(every); soon.Before(e.next) {
			e.next = soon
		}
	}
}

// news reports whether there is more to say than the open alert has said.
func (e *entry) news() bool {
	return e.open == "" || !slices.Contains(counted, e.fact.Condition) || e.fact.Count > e.told
}

// fired notes that this node's alert is stored under id.
func (m *machine) fired(now time.Time, task, id string, spooled bool, every time.Duration) {
	m.joined(now, task, id, every)
	e := m.entries[task]
	e.spooled, e.told, e.next = spooled, e.fact.Count, now.Add(every)
}

// joined notes that another alert of the last `every` says the same, and is open. Its age is not known here. What it has told
// is known only of one that was open before.
func (m *machine) joined(now time.Time, task, id string, every time.Duration) {
	e := m.entries[task]
	if e.open != id {
		e.told = e.fact.Count
	}
	e.owed, e.open, e.spooled, e.resolve = false, id, false, time.Time{}
	e.next = now.Add(every / 4)
}

// early notes that an alert of the last `every` said the same, but is resolved already.
func (m *machine) early(now time.Time, task string, every time.Duration) {
	e := m.entries[task]
	e.owed, e.open, e.next = false, "", now.Add(every/4)
}

// resolved notes that an open alert was resolved, by whichever node.
func (m *machine) resolved(task string) {
	e := m.entries[task]
	e.open, e.spooled, e.told = "", false, 0
}

// failed notes that an alert could not be stored. It stays owed when the condition ends: an operator is to learn that an
// unhealthy store was unhealthy, and an unhealthy embedded store cannot store that.
func (m *machine) failed(now time.Time, d *due) {
	e := m.entries[d.task]
	if d.state == Resolved {
		e.resolve = now.Add(again)
		return
	}
	e.owed = e.owed || e.open == ""
	e.next = now.Add(again)
}
