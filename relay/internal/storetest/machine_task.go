package storetest

import (
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/callbackrelay/caddy-relay/relay"
)

func (m *machine) someTask() string { return fmt.Sprintf("task-%d", m.upTo("task", 2)) }

func (m *machine) expect() {
	e := expectation(m.someTask())
	e.API, e.Most = rapid.SampledFrom([]string{"one", "two", ""}).Draw(m.T, "api"), 1+m.upTo("most", 2)
	e.After = time.Duration(m.upTo("after", 9))*time.Minute + half
	err := m.node().Expect(m.Context(), e)
	m.Logf("expectation of %s, API %q, after %v, of %d at most: %v", e.TaskID, e.API, e.After, e.Most, err)
	m.model.expected(e, err)
	m.lookAtTasks(m.nodes[0])
}

func (m *machine) leaseTasks() {
	l := &relay.TaskLease{Source: source, Max: 1 + m.upTo("most", 2), For: modelTerm, Every: m.delay("every")}
	leased, next, err := m.node().LeaseTasks(m.Context(), l)
	m.Logf("lease of %d tasks every %v: %d, next %v, %v", l.Max, l.Every, len(leased), next, err)
	m.must(err)
	m.model.leasedTasks(l, leased, next)
	m.polls = append(m.polls, leased...)
}

func (m *machine) settleTask() {
	if len(m.polls) == 0 {
		return
	}
	l := m.polls[len(m.polls)-1-m.upTo("poll", len(m.polls)-1)]
	op := &relay.TaskSettle{Source: source, TaskID: l.TaskID, Token: l.Token, Reason: "PENDING", Delay: m.delay("delay"), GivenUp: m.rarely("given up", 3)}
	err := m.node().SettleTask(m.Context(), op)
	m.Logf("settle of %s by the token %d, given up %v: %v", op.TaskID, op.Token, op.GivenUp, err)
	m.model.settledTask(op, err)
}

// lookAtTasks compares the tasks that a client lists with the model.
func (m *machine) lookAtTasks(s relay.Store) {
	tasks, _, err := s.Tasks(m.Context(), relay.TaskFilter{})
	m.must(err)
	m.model.shownTasks(tasks)
}

// lookAtTaskCounts compares how many tasks the store counts with the model.
func (m *machine) lookAtTaskCounts(s relay.Store) {
	counts := s.TaskCounts()
	i := slices.IndexFunc(counts, func(c relay.TaskCount) bool { return c.Source == source })
	if i < 0 {
		counts, i = []relay.TaskCount{{Due: -1}}, 0
	}
	open, overdue := m.model.openTasks()
	if c := counts[i]; c.Expected+c.Overdue != int64(open) || m.Refresh != nil && c.Overdue != int64(overdue) || c.Due < 0 != (open == 0) {
		m.model.fail("%+v; want %d open, %d overdue", c, open, overdue)
	}
}
