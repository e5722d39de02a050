package alert

import (
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const every = 15 * time.Minute

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	held  = Fact{Subject{relay.ConditionBreakerOpen, "vocals", "billing"}, Detail{Reason: "held"}}
)

func letters(n int64) Fact {
	return Fact{Subject{relay.ConditionDeadLetter, "vocals", "billing"}, Detail{Reason: "given up", Count: n}}
}

// step observes facts at a time and returns the states of the alerts that are due.
func step(m *machine, at time.Duration, facts ...Fact) (states string) {
	m.observe(start.Add(at), facts)
	var list []string
	for _, d := range m.due(start.Add(at)) {
		list = append(list, string(d.state))
	}
	return strings.Join(list, " ")
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("due are %q, expected %q", got, want)
	}
}

func TestAConditionIsRepeatedWhileItHolds(t *testing.T) {
	m, task := new(machine), held.Task()
	expect(t, step(m, 0, held), "firing")
	m.fired(start, task, "1", false, every)
	expect(t, step(m, time.Minute, held), "")
	expect(t, step(m, every-time.Second, held), "")
	expect(t, step(m, every, held), "firing")
	m.fired(start.Add(every), task, "2", false, every)
	expect(t, step(m, every+time.Minute), "resolved")
	m.resolved(task)
	expect(t, step(m, every+2*time.Minute), "")
	expect(t, step(m, every+3*time.Minute, held), "")
	expect(t, step(m, 2*every, held), "firing")
}

func TestDeadLettersAreRepeatedForNewOnes(t *testing.T) {
	m, task := new(machine), letters(1).Task()
	expect(t, step(m, 0, letters(1)), "firing")
	m.fired(start, task, "1", false, every)
	expect(t, step(m, 24*time.Hour, letters(1)), "")
	expect(t, step(m, 24*time.Hour, letters(2)), "firing")
	m.fired(start.Add(24*time.Hour), task, "2", false, every)
	expect(t, step(m, 25*time.Hour, letters(2)), "")
	expect(t, step(m, 26*time.Hour), "resolved")
}

// What another node has said is not said again, not even after `every`; what it has resolved already is said later.
func TestAnAlertOfAnotherNode(t *testing.T) {
	m, task := new(machine), letters(1).Task()
	expect(t, step(m, 0, letters(1)), "firing")
	m.joined(start, task, "theirs", every)
	expect(t, step(m, 2*every, letters(1)), "")
	expect(t, step(m, 2*every), "resolved")

	m = new(machine)
	expect(t, step(m, 0, letters(1)), "firing")
	m.early(start, task, every)
	expect(t, step(m, time.Minute, letters(1)), "")
	expect(t, step(m, every/4, letters(1)), "firing")
}

// An alert that cannot be stored is tried again, and is sent also where its condition has ended meanwhile.
func TestAnAlertThatCannotBeStored(t *testing.T) {
	m, task := new(machine), held.Task()
	expect(t, step(m, 0, held), "firing")
	m.failed(start, &m.due(start)[0])
	expect(t, step(m, time.Second, held), "")
	expect(t, step(m, again), "firing")
	m.fired(start.Add(again), task, "1", false, every)
	expect(t, step(m, again), "resolved")
	m.failed(start.Add(again), &m.due(start.Add(again))[0])
	expect(t, step(m, again+time.Second), "")
	expect(t, step(m, 2*again), "resolved")
}

// What an earlier process has left open is resolved unless it holds again soon.
func TestAnAlertOfAnEarlierProcess(t *testing.T) {
	m := new(machine)
	m.adopt(held, start.Add(-time.Hour), "1", start.Add(every))
	expect(t, step(m, 0), "")
	expect(t, step(m, every), "resolved")

	m = new(machine)
	m.adopt(letters(3), start.Add(-time.Hour), "1", start.Add(every))
	expect(t, step(m, 0, letters(3)), "")
	expect(t, step(m, time.Minute), "resolved")

	m = new(machine)
	m.adopt(letters(3), start.Add(-time.Hour), "1", start.Add(every))
	expect(t, step(m, 0, letters(3)), "")
	expect(t, step(m, every, letters(3)), "")
	expect(t, step(m, every, letters(4)), "firing")
}

// What an earlier process has left open and this one joins has told no more than it did then.
func TestAJoinedAlertOfAnEarlierProcess(t *testing.T) {
	m, task := new(machine), letters(1).Task()
	m.adopt(letters(1), start.Add(-time.Minute), "1", start.Add(every))
	expect(t, step(m, 0, letters(3)), "firing")
	m.joined(start, task, "1", every) // it is too early for another one
	expect(t, step(m, every/4, letters(3)), "firing")
	m.fired(start.Add(every/4), task, "2", false, every)
	expect(t, step(m, 2*every, letters(3)), "")
}

// An alert waits no longer than the settings of now say.
func TestAlertsAreHastened(t *testing.T) {
	m, task := new(machine), held.Task()
	expect(t, step(m, 0, held), "firing")
	m.fired(start, task, "1", false, every)
	m.hasten(start.Add(time.Minute), time.Second)
	expect(t, step(m, time.Minute, held), "")
	m.hasten(start.Add(time.Minute+time.Second), time.Second)
	expect(t, step(m, time.Minute+time.Second, held), "firing")
}

// Subjects that are over are forgotten.
func TestForgotten(t *testing.T) {
	m := new(machine)
	step(m, 0, held)
	m.fired(start, held.Task(), "1", false, every)
	step(m, time.Minute)
	m.resolved(held.Task())
	step(m, every)
	if len(m.entries) != 0 {
		t.Errorf("%d subjects are remembered", len(m.entries))
	}
}

func TestTask(t *testing.T) {
	for _, c := range []struct {
		subject Subject
		want    string
	}{
		{Subject{relay.ConditionStore, "", ""}, "store"},
		{Subject{relay.ConditionSilent, "vocals", ""}, "silent:vocals"},
		{held.Subject, "breaker_open:vocals:billing"},
	} {
		if got := c.subject.Task(); got != c.want {
			t.Errorf("the task of %+v is %q", c.subject, got)
		}
	}
	long := strings.Repeat("x", 63)
	a, b := Subject{relay.ConditionBreakerOpen, long, long}.Task(), Subject{relay.ConditionBreakerOpen, long, long[1:] + "y"}.Task()
	if len(a) > maxTask || len(b) > maxTask || a == b {
		t.Errorf("long names make the tasks %q and %q", a, b)
	}
}

func TestTally(t *testing.T) {
	var tally Tally
	count := func(results ...string) sourceTally {
		for _, r := range results {
			tally.Count("vocals", r, start)
		}
		return tally.of("vocals", start, every)
	}
	bad := relay.ResultUnverified
	if got := count(bad, bad, relay.ResultDenied, bad); got.unverified != 3 || got.denied.n != 1 || !got.called.IsZero() {
		t.Errorf("after three forgeries and a stranger: %+v", got)
	}
	if got := count(relay.ResultDuplicate, bad); got.unverified != 1 || !got.called.Equal(start) {
		t.Errorf("a duplicate is verified: %+v", got)
	}
	for range 2 {
		tally.GaveUp("vocals", start.Add(every-1))
	}
	if got := tally.of("vocals", start.Add(every), every); got.denied.n != 0 || got.givenUp.n != 2 {
		t.Errorf("denials end, and tasks given up later do not: %+v", got)
	}
	tally.Count("vocals", relay.ResultDenied, start.Add(every))
	if got := tally.of("vocals", start.Add(2*every-1), every); got.denied.n != 1 || got.givenUp.n != 0 {
		t.Errorf("denials begin anew, and tasks given up end: %+v", got)
	}
}

func TestSlack(t *testing.T) {
	body := `{"alert":"dead_letter","source":"vocals","destination":"billing","state":"firing","reason":"dead letters: 1; the last error: <a> & b",` +
		`"event_id":"01J","task_id":"t-1","count":1,"since":"2026-01-02T03:04:05Z","node":"gw-1","link":"https://relay.example.com/#/dead-letters"}`
	const want = `{"text":"[firing] dead_letter, destination billing of source vocals: dead letters: 1; the last error: \u0026lt;a\u0026gt; \u0026amp; b` +
		` (event 01J, task t-1), since 2026-01-02T03:04:05Z, seen by gw-1 https://relay.example.com/#/dead-letters"}`
	if got := string(Slack([]byte(body))); got != want {
		t.Errorf("for Slack it is\n%s\nexpected\n%s", got, want)
	}
	if got := string(Slack([]byte("sample"))); got != `{"text":"sample"}` {
		t.Errorf("a sample is %s", got)
	}
}
