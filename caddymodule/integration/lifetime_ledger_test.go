package integration

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
)

// expectedTask is a task as the admin API lists it.
type expectedTask struct {
	TaskID  string `json:"task_id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Polls   int    `json:"polls"`
	EventID string `json:"event_id"`
}

// outcomes returns how many callbacks of different outcomes the provider has for a task.
func outcomes(p fakeprovider.Task) int {
	if p.API == "generate/record-info" && p.Fate.Code == 0 {
		return 3
	}
	return 1
}

// calledBack reports whether the provider has nothing more to call back about a task.
func calledBack(p fakeprovider.Task) bool {
	if p.Fate.Never {
		return true
	}
	taken := 0
	for _, c := range p.Callbacks {
		if c.Status == http.StatusOK {
			taken++
		}
	}
	return taken >= outcomes(p) && len(p.Callbacks) >= outcomes(p)*(1+p.Fate.Repeat)
}

// open returns how many tasks are still expected.
func (l *life) open() int {
	l.t.Helper()
	n := 0
	for _, state := range []string{"expected", "overdue"} {
		n += len(list[expectedTask](l.gateways[0], "/relay/tasks", "tasks", url.Values{"state": {state}}))
	}
	return n
}

// end waits until all tasks have ended, and compares the ledgers of the provider, the gateways and the consumers.
func (l *life) end(kills int) {
	l.t.Helper()
	begun := time.Now()
	g := l.gateways[0]
	eventually(l.t, lifeWithin, "the provider has called back", func() bool {
		return !slices.ContainsFunc(l.provider.Tasks(), func(p fakeprovider.Task) bool { return !calledBack(p) })
	})
	eventually(l.t, lifeWithin, "no task is expected any more", func() bool { return l.open() == 0 })
	eventually(l.t, lifeWithin, "everything is settled", g.settled)
	took := time.Since(begun)

	events := map[string][]event{} // by task
	total := 0
	for _, e := range g.events(url.Values{"limit": {"1000"}}) {
		events[e.TaskID] = append(events[e.TaskID], e)
		total++
	}
	expected := map[string]expectedTask{}
	states := map[string]int{}
	for _, e := range list[expectedTask](g, "/relay/tasks", "tasks", url.Values{"limit": {"1000"}}) {
		expected[e.TaskID] = e
		states[e.State]++
	}
	tasks := l.provider.Tasks()
	for _, p := range tasks {
		l.checkTask(p, expected[p.ID], events[p.ID])
		l.checkBodies(p, events[p.ID])
	}
	repeats := 0
	for name, c := range l.consumers {
		repeats += l.checkConsumer(name, c, events)
	}
	if repeats > 0 && kills == 0 {
		l.t.Errorf("%d requests repeat an earlier one", repeats)
	}
	l.t.Logf("%d submissions answered (the slowest took %s), %d not; %d tasks at the provider, %v, %d events at %d consumers, %d requests repeated; all had ended %s after the last submission",
		len(l.answered), l.slowest.Round(time.Millisecond), l.unanswered, len(tasks), states, total, len(l.consumers), repeats, took.Round(time.Second/10))
}

// checkTask checks that a task has one event for each of its outcomes, and ended by the last. A task that nobody was told of
// may never have been registered.
func (l *life) checkTask(p fakeprovider.Task, expected expectedTask, events []event) {
	l.t.Helper()
	want := outcomes(p)
	if p.Fate.Never {
		want = 1
	}
	if !l.answered[p.ID] && p.Fate.Never && len(events) == 0 {
		return
	}
	seen := map[string]bool{}
	finals := 0
	for _, e := range events {
		seen[fmt.Sprint(e.Stage, e.Code)] = true
		if e.Stage != "text" && e.Stage != "first" {
			finals++
			if p.Fate.Never != (e.Origin == "recovered") && p.Fate.Late == 0 && l.answered[p.ID] && p.Fate.Never {
				l.t.Errorf("task %s (%s, %+v) was never called back, and its event comes from a %s", p.ID, p.API, p.Fate, e.Origin)
			}
			if e.Conflicts > 0 && p.Fate.Code == 0 {
				l.t.Errorf("task %s (%s, %+v): the callback and the details differ, event %s", p.ID, p.API, p.Fate, e.ID)
			}
		}
		if e.State != "delivered" || len(e.Deliveries) != len(l.consumers) {
			l.t.Errorf("event %s of task %s is %s to %d destinations", e.ID, p.ID, e.State, len(e.Deliveries))
		}
	}
	if len(events) != want || len(seen) != want || finals != 1 {
		l.t.Errorf("task %s (%s, %+v) has %d events of %d outcomes, %d of them final: %+v; want %d; the gateway says %+v",
			p.ID, p.API, p.Fate, len(events), len(seen), finals, events, want, expected)
	}
	if l.answered[p.ID] && (expected.State != "called_back" && expected.State != "recovered" || expected.EventID == "") {
		l.t.Errorf("task %s (%s, %+v) is listed as %+v", p.ID, p.API, p.Fate, expected)
	}
}

// checkBodies checks that what was delivered names all files of a task, and that nothing recovered names where to call back.
func (l *life) checkBodies(p fakeprovider.Task, events []event) {
	l.t.Helper()
	for _, e := range events {
		if e.Stage == "text" || e.Stage == "first" || p.Fate.Code != 0 {
			continue
		}
		for name, c := range l.consumers {
			body := c.bodyOf(e.ID)
			for _, f := range p.Files {
				if !strings.Contains(body, f.URL) {
					l.t.Errorf("what %s got of task %s (%s, %s) does not name %s: %s", name, p.ID, p.API, e.Origin, f.URL, body)
				}
			}
			if e.Origin == "recovered" && strings.Contains(body, p.CallbackURL) {
				l.t.Errorf("what %s got of task %s (%s) names the callback URL: %s", name, p.ID, p.API, body)
			}
		}
	}
}

// bodyOf returns the body of an event's first request.
func (c *consumer) bodyOf(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.got {
		if r.event() == id {
			return r.body
		}
	}
	return ""
}

// checkConsumer checks that a consumer got just the gateway's events. It returns how many requests repeat an earlier one.
func (l *life) checkConsumer(name string, c *consumer, events map[string][]event) (repeats int) {
	l.t.Helper()
	want := map[string]bool{}
	for _, list := range events {
		for _, e := range list {
			want[e.ID] = true
		}
	}
	got := map[string]bool{}
	for _, r := range c.requests() {
		if got[r.event()] {
			repeats++
		}
		got[r.event()] = true
	}
	if !maps.Equal(got, want) {
		l.t.Errorf("%s got %d events, the gateway has %d", name, len(got), len(want))
	}
	return repeats
}
