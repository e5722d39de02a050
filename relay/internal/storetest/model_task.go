package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// modelTask is a task that was expected.
type modelTask struct {
	name, api string
	state     relay.TaskState // expected also while it is overdue
	reason    string
	polls     int
	at, late  time.Duration
	due       time.Duration
	ended     time.Duration
	token     uint64   // of the current lease; 0 without one
	event     string   // that has ended it
	finals    []string // one of which it is, where the task had ended before it was registered
	key       [32]byte
	ending    relay.Ending
}

// task returns a task, nil if it was never expected or is forgotten.
func (m *model) task(name string) *modelTask {
	for _, t := range m.tasks {
		if t.name == name {
			return t
		}
	}
	return nil
}

func (t *modelTask) open() bool { return t != nil && t.state == relay.TaskExpected }

// openTasks counts those that are expected, and those of them that are overdue.
func (m *model) openTasks() (open, overdue int) {
	for _, t := range m.tasks {
		if t.open() {
			open++
			if t.late <= m.clock {
				overdue++
			}
		}
	}
	return open, overdue
}

// unexpected reports whether an accept is of a recovered event whose task is not expected any more.
func (m *model) unexpected(op *relay.Accept) bool {
	t := m.task(op.Event.TaskID)
	return op.Ends != relay.NotEnding && op.Event.Origin == relay.OriginRecovered && !t.open() && (t == nil || t.event != op.Event.ID)
}

// recovered returns the recovered event that has said of the task's end what an accept says, nil if there is none within
// the window.
func (m *model) recovered(op *relay.Accept) *modelEvent {
	t := m.task(op.Event.TaskID)
	if op.Ends == relay.NotEnding || op.Event.Origin == relay.OriginRecovered || t == nil || t.state != relay.TaskRecovered || t.ending != op.Ends {
		return nil
	}
	return m.remembered(t.key)
}

// ends follows what an accept means for its task.
func (m *model) ends(op *relay.Accept) {
	t := m.task(op.Event.TaskID)
	recovered := op.Event.Origin == relay.OriginRecovered
	if op.Ends == relay.NotEnding || t == nil || !t.open() && (recovered || t.state != relay.TaskGivenUp) ||
		!recovered && op.Result != relay.Accepted && op.Result != relay.Duplicate && op.Result != relay.Conflict {
		return
	}
	t.state, t.key = relay.TaskCalledBack, op.Event.Key
	if recovered && op.Result == relay.Accepted {
		t.state = relay.TaskRecovered
	}
	if op.ConflictWith != "" {
		t.key = op.Event.SeparateKey()
	}
	t.event, t.ending, t.ended, t.token = op.FirstID, op.Ends, m.clock, 0
}

// expected follows the registration of a task.
func (m *model) expected(e *relay.Expectation, err error) {
	m.t.Helper()
	t := m.task(e.TaskID)
	open, _ := m.openTasks()
	tooMany := false
	if t == nil || t.state == relay.TaskGivenUp || e.API != "" && e.API != t.api {
		tooMany = !t.open() && open >= e.Most
		if m.parted && !t.open() {
			tooMany = err != nil // of other partitions a client knows what it has seen last
		}
	} else {
		e = nil // nothing changes
	}
	if errors.Is(err, relay.ErrTooManyTasks) != tooMany || err != nil && !tooMany {
		m.fail("expectation with %d open returns %v", open, err)
	}
	if e == nil || tooMany {
		return
	}
	look := t == nil || t.state == relay.TaskGivenUp // of another API's task the events say nothing
	if t == nil {
		t = &modelTask{name: e.TaskID}
		m.tasks = append(m.tasks, t)
	}
	*t = modelTask{name: t.name, api: e.API, state: relay.TaskExpected, at: m.clock, late: m.clock + e.After, due: m.clock + e.After}
	if look {
		t.finals = m.finals(t.name)
	}
	if len(t.finals) > 0 {
		t.state, t.ended = relay.TaskCalledBack, m.clock
	}
}

// finals returns the ids of the events that say that a task has ended.
func (m *model) finals(task string) (ids []string) {
	for _, ev := range m.events {
		if ev.TaskID == task && relay.FinalStage(ev.Stage) {
			ids = append(ids, ev.ID)
		}
	}
	return ids
}

// leasedTasks follows a lease of tasks.
func (m *model) leasedTasks(l *relay.TaskLease, leased []*relay.LeasedTask, next time.Duration) {
	m.t.Helper()
	pause := max(0, m.polled+l.Every-m.clock)
	var due []*modelTask
	for _, t := range m.tasks {
		if t.open() && t.due <= m.clock && pause == 0 {
			due = append(due, t)
		}
	}
	m.wanted("leased tasks", len(leased), min(len(due), l.Max))
	last := time.Duration(0)
	for _, got := range leased {
		t := m.task(got.TaskID)
		if !slices.Contains(due, t) || t.due < last || got.API != t.api || got.Polls != t.polls+1 || got.Token == 0 || m.tokens[t.named(got.Token)] ||
			got.Age < m.clock-t.at || got.Age > m.clock-t.at+2*slack {
			m.fail("leased the task %+v of %+v", got, t)
		}
		due = slices.DeleteFunc(due, func(other *modelTask) bool { return other == t })
		last, m.tokens[t.named(got.Token)] = t.due, true
		t.token, t.polls, t.due = got.Token, t.polls+1, m.clock+l.For
	}
	for _, t := range due {
		if t.due < last {
			m.fail("leased no task %s, which is due before another one", t.name)
		}
	}
	if len(leased) > 0 {
		m.polled, pause = m.clock, l.Every
	}
	want := time.Duration(-1)
	for _, t := range m.tasks {
		if wait := max(0, t.due-m.clock); t.open() && (want < 0 || wait < want) {
			want = wait
		}
	}
	soonest := want // partitions in which nothing is due are not asked for the pause
	if want >= 0 {
		want = max(want, pause)
	}
	if !m.parted {
		soonest = want
	} else if len(leased) > 0 {
		soonest = pause // not all partitions were asked
	}
	if next > want || next < soonest-slack || next >= 0 != (want >= 0) {
		m.fail("the next task is due in %v, want %v", next, want)
	}
}

func (t *modelTask) named(token uint64) string { return fmt.Sprint("task ", t.name, " ", token) }

// settledTask follows a settle of a task.
func (m *model) settledTask(op *relay.TaskSettle, err error) {
	m.t.Helper()
	t := m.task(op.TaskID)
	current := t.open() && t.token == op.Token
	if errors.Is(err, relay.ErrLeaseLost) == current || err != nil && current {
		m.fail("settle of task %s: %v, current %v", op.TaskID, err, current)
	}
	if !current {
		return
	}
	t.token, t.reason, t.due = 0, op.Reason, m.clock+op.Delay
	if op.GivenUp {
		t.state, t.ended = relay.TaskGivenUp, m.clock
	}
}

// purgedTasks follows a purge.
func (m *model) purgedTasks() {
	m.tasks = slices.DeleteFunc(m.tasks, func(t *modelTask) bool { return !t.open() && m.clock >= t.ended+modelKeep })
}

// shownTasks checks which tasks are listed, the newest registered first.
func (m *model) shownTasks(tasks []relay.TaskRecord) {
	m.t.Helper()
	m.wanted("tasks", len(tasks), len(m.tasks))
	for i, got := range tasks {
		t := m.tasks[len(tasks)-1-i]
		if m.parted {
			t = m.task(got.TaskID)
		}
		if t == nil {
			m.fail("task %+v is listed", got)
		}
		state := t.state
		if t.open() && t.late <= m.clock {
			state = relay.TaskOverdue
		}
		if t.state == relay.TaskCalledBack && t.event == "" && slices.Contains(t.finals, got.EventID) {
			t.event = got.EventID
		}
		wait := max(0, t.due-m.clock)
		if got.TaskID != t.name || got.API != t.api || got.State != state || got.Reason != t.reason || got.Polls != t.polls || got.EventID != t.event ||
			t.open() && (got.NextPoll > wait || got.NextPoll < wait-slack) || got.EndedAt.IsZero() != t.open() {
			m.fail("task %+v; want %+v", got, t)
		}
	}
}
