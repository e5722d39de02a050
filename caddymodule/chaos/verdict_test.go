package chaos

import (
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

// story is a run as a ledger has it, with what the store lists in the end.
type story struct {
	*ledger

	t      *testing.T
	events map[string]stored
	shared *redis
}

// The callbacks of a story. The event of each has the name of its task, and that of an ordered one its stage besides.
var (
	plainTask   = callback{source: plainSource, task: "plain"}
	doomedTask  = callback{source: doomedSource, task: "doomed"}
	rubbishTask = callback{source: rubbishSource, task: "rubbish"}
	movedTask   = callback{source: movedSource, task: "moved"}
)

func (c callback) id() string { return strings.Trim(c.task+"-"+c.stage, "-") }

func ordered(stage int) callback { return callback{orderedSource, "ordered", stages[stage]} }

// tell returns a story in which all that was promised is kept, faults and their consequences included.
func tell(t *testing.T) *story {
	t.Helper()
	s := &story{t: t, ledger: newLedger(), events: map[string]stored{}}
	s.accept(plainTask)
	s.get(plainTask, "steady", 1, 0, http.StatusOK)
	s.get(plainTask, "flaky", 1, 0, http.StatusInternalServerError)
	s.get(plainTask, "flaky", 2, 0, http.StatusOK)
	for n := range stages {
		s.accept(ordered(n))
		s.get(ordered(n), "ordered", 1, 0, http.StatusOK)
	}
	s.accept(doomedTask)
	s.get(doomedTask, "judge", 1, 0, http.StatusGone)
	s.get(doomedTask, "judge", 1, 1, http.StatusOK)
	s.accept(rubbishTask)
	s.get(rubbishTask, "bin", 1, 0, http.StatusGone)
	s.events[rubbishTask.id()] = stored{callback: rubbishTask} // its delivery was discarded
	s.accept(movedTask)
	s.pass(time.Minute) // so that what was before is settled
	s.get(movedTask, "moved", 1, 0, http.StatusOK)
	s.kill()
	s.get(movedTask, "moved", 1, 0, http.StatusOK)
	s.pass(time.Minute)
	s.replayed(delivery{plainTask.id(), "steady"})
	s.get(plainTask, "steady", 1, 1, http.StatusOK)
	over := s.paused("steady")
	s.pass(time.Minute)
	over()
	return s
}

func (s *story) pass(d time.Duration) { wait(s.t.Context(), d) }

// accept has a callback answered by 200, and stored with all of its deliveries delivered.
func (s *story) accept(c callback) {
	took := s.took(10 * time.Millisecond)
	s.answer(c, http.StatusOK, c.id(), took)
	s.checkAnswer(c, 0, http.StatusOK, nil, time.Now().Add(-took), took)
	event := stored{callback: c}
	for _, name := range consumersOf[c.source] {
		event.deliveries = append(event.deliveries, api.Delivery{Destination: name, State: "delivered"})
	}
	s.events[c.id()] = event
}

func (s *story) took(d time.Duration) time.Duration {
	s.pass(d)
	return d
}

// get has a consumer get a request, and answer it.
func (s *story) get(c callback, consumer string, attempt, replay, status int) {
	s.pass(10 * time.Millisecond)
	r := s.arrive(delivery{c.id(), consumer}, c, attempt, replay)
	s.pass(10 * time.Millisecond)
	s.end(r, status, false)
}

// kill kills the gateway and starts it again.
func (s *story) kill() {
	over := s.begin("kill", 0)
	s.pass(100 * time.Millisecond)
	over()
}

// clockSetBefore has Redis's clock set until some time before the first attempt of a delivery, which never ends.
func (s *story) clockSetBefore(by time.Duration) {
	first := s.requests[delivery{plainTask.id(), "flaky"}][0]
	first.ended = time.Time{}
	to := first.arrived.Add(-by)
	s.faults = append(s.faults, &fault{kind: redisClock, span: span{to.Add(-time.Millisecond), to}})
}

// silent has a consumer fall silent in the middle of a request, which is repeated after something has happened.
func (s *story) silent(happens func()) {
	s.pass(time.Minute)
	s.replayed(delivery{plainTask.id(), "flaky"})
	s.silenced([]*request{s.arrive(delivery{plainTask.id(), "flaky"}, plainTask, 1, 1)})
	s.pass(10 * time.Millisecond)
	happens()
	s.get(plainTask, "flaky", 1, 1, http.StatusOK)
}

// last returns the last request of a delivery.
func (s *story) last(c callback, consumer string) *request {
	all := s.requests[delivery{c.id(), consumer}]
	return all[len(all)-1]
}

// forget removes a delivery's requests.
func (s *story) forget(c callback, consumer string) { delete(s.requests, delivery{c.id(), consumer}) }

// judge returns the kinds of violations, with those deliveries that only a gateway could explain.
func (s *story) judge() (kinds []string) {
	for _, d := range s.compare(s.events, s.shared) {
		kinds = append(kinds, "doubt of "+d.event)
	}
	return append(kinds, slices.Sorted(maps.Keys(s.count))...)
}

// TestVerdict changes one thing in a story without fault, and sees the verdict name it.
func TestVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*story)
		want   string
	}{
		"a story without fault": {func(*story) {}, ""},

		"answered and nowhere": {func(s *story) {
			s.answer(callback{plainSource, "nowhere", ""}, http.StatusOK, "nowhere", 0)
		}, "lost"},
		"answered, delivered, and not in the store": {func(s *story) { delete(s.events, movedTask.id()) }, "lost"},
		"answered, and stored under another id": {func(s *story) {
			s.events["other"] = s.events[movedTask.id()]
			delete(s.events, movedTask.id())
		}, "lost"},
		"another id, while a spool may have told it": {func(s *story) {
			s.shared = &redis{}
			s.answer(movedTask, http.StatusOK, "spooled", 0)
		}, ""},
		"answered and delivered to one of two":      {func(s *story) { s.forget(plainTask, "flaky") }, "lost"},
		"answered and never delivered with success": {func(s *story) { s.last(plainTask, "flaky").status = http.StatusInternalServerError }, "lost"},
		"answered, and given up by nobody":          {func(s *story) { s.last(rubbishTask, "bin").status = http.StatusBadGateway }, "lost"},
		"delivered, and neither answered nor stored": {func(s *story) {
			s.get(callback{plainSource, "ghost", ""}, "steady", 1, 0, http.StatusOK)
		}, "lost"},
		"not answered, and not stored": {func(s *story) { s.answer(callback{plainSource, "refused", ""}, 503, "", 0) }, ""},
		"two events of one callback":   {func(s *story) { s.events["second"] = s.events[plainTask.id()] }, "split"},

		"a delivery that waits": {func(s *story) { s.events[plainTask.id()].deliveries[1].State = "pending" }, "forgotten"},
		"a dead letter":         {func(s *story) { s.events[doomedTask.id()].deliveries[0].State = "dead" }, "forgotten"},
		"a replay that was confirmed and not made": {func(s *story) {
			s.replayed(delivery{plainTask.id(), "flaky"})
		}, "forgotten"},
		"a replay that was made without success": {func(s *story) {
			s.replayed(delivery{plainTask.id(), "flaky"})
			s.get(plainTask, "flaky", 1, 1, http.StatusInternalServerError)
		}, "forgotten"},

		"an attempt before the end of the last": {func(s *story) {
			s.last(plainTask, "flaky").arrived = s.requests[delivery{plainTask.id(), "flaky"}][0].ended.Add(-time.Second)
		}, "overlaps"},
		"an attempt while the last goes on for ever": {func(s *story) {
			s.requests[delivery{plainTask.id(), "flaky"}][0].ended = time.Time{}
		}, "overlaps"},
		"Redis's clock was set as the last attempt was leased, which goes on": {func(s *story) { s.clockSetBefore(settleTime / 2) }, ""},
		"Redis's clock was set well before an attempt that goes on":           {func(s *story) { s.clockSetBefore(2 * settleTime) }, "overlaps"},
		"the end of an attempt is noticed late by a consumer": {func(s *story) {
			s.last(plainTask, "flaky").arrived = s.requests[delivery{plainTask.id(), "flaky"}][0].ended.Add(-noticeTime)
		}, ""},
		"a killed gateway tries again what went on over a silent connection": {func(s *story) { s.silent(s.kill) }, ""},
		"a gateway that goes on tries again what goes on over a silent connection": {func(s *story) {
			s.silent(func() { s.pass(100 * time.Millisecond) })
		}, "overlaps"},
		"another gateway is killed while an attempt goes on over a silent connection": {func(s *story) {
			s.shared = &redis{}
			s.silent(s.kill)
		}, "overlaps"},

		"the second of a task before the first": {func(s *story) {
			s.last(ordered(1), "ordered").arrived = s.last(ordered(0), "ordered").arrived
		}, "disorder"},
		"the last of a task without the second": {func(s *story) {
			delete(s.answered, ordered(1))
			delete(s.events, ordered(1).id())
			s.forget(ordered(1), "ordered")
			delete(s.ledger.events, ordered(1).id())
		}, "disorder"},

		"a request while its destination is paused": {func(s *story) {
			defer s.paused("flaky")()
			s.pass(settleTime)
			s.replayed(delivery{plainTask.id(), "flaky"})
			s.get(plainTask, "flaky", 1, 1, http.StatusOK)
			s.pass(time.Second)
		}, "paused"},
		"a request while the other gateway does not know of the pause": {func(s *story) {
			defer s.paused("flaky")()
			s.shared = &redis{}
			s.pass(settleTime)
			s.replayed(delivery{plainTask.id(), "flaky"})
			s.get(plainTask, "flaky", 1, 1, http.StatusOK)
			s.pass(time.Second)
		}, ""},

		"an answer too late": {func(s *story) {
			took := s.took(ackWithin + answerTolerance + time.Millisecond)
			s.checkAnswer(plainTask, 0, http.StatusServiceUnavailable, nil, time.Now().Add(-took), took)
		}, "late"},
		"an answer too late, of a gateway that was suspended": {func(s *story) {
			over := s.begin("stop", 0)
			took := s.took(ackWithin + answerTolerance + time.Second)
			over()
			s.checkAnswer(plainTask, 0, http.StatusOK, nil, time.Now().Add(-took), took)
		}, ""},
		"an answer too late, of another gateway": {func(s *story) {
			over := s.begin("stop", 1)
			took := s.took(ackWithin + answerTolerance + time.Second)
			over()
			s.checkAnswer(plainTask, 0, http.StatusOK, nil, time.Now().Add(-took), took)
		}, "late"},
		"a sender that is refused": {func(s *story) {
			s.checkAnswer(plainTask, 0, http.StatusInternalServerError, []byte("no"), time.Now(), 0)
		}, "refused"},

		"a request repeats one that was settled": {func(s *story) { s.get(plainTask, "flaky", 2, 0, http.StatusOK) }, "repeated"},
		"a request repeats one that was settled before a fault": {func(s *story) {
			s.kill()
			s.get(plainTask, "flaky", 2, 0, http.StatusOK)
		}, "repeated"},
		"a request repeats one that came after a fault": {func(s *story) {
			s.kill()
			s.pass(settleTime)
			s.replayed(delivery{plainTask.id(), "flaky"})
			s.get(plainTask, "flaky", 1, 1, http.StatusOK)
			s.pass(time.Minute)
			s.get(plainTask, "flaky", 1, 1, http.StatusOK)
		}, "repeated"},
		"a request repeats one that was cut off": {func(s *story) {
			s.last(plainTask, "flaky").cut = true
			s.get(plainTask, "flaky", 2, 0, http.StatusOK)
		}, ""},
		"a number comes again that was used before": {func(s *story) { s.get(plainTask, "flaky", 1, 0, http.StatusOK) }, "doubt of plain, overlaps, repeated"},
		"an attempt follows one that was answered":  {func(s *story) { s.get(plainTask, "flaky", 3, 0, http.StatusOK) }, "doubt of plain"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := tell(t)
				s.pass(time.Minute)
				test.change(s)
				if got := strings.Join(s.judge(), ", "); got != test.want {
					t.Errorf("the verdict is %q, want %q: %v", got, test.want, s.violation)
				}
			})
		})
	}
}

// TestExplanation asks a gateway why it went on after an answer: that it gave up waiting before must be in what it shows.
func TestExplanation(t *testing.T) {
	after := doubt{delivery{"plain", "flaky"}, &request{attempt: 1, status: http.StatusOK}, &request{attempt: 2}}
	shown := func(a ...api.Attempt) api.Event {
		return api.Event{Deliveries: []api.Delivery{{Destination: "flaky", Attempts: a}}}
	}
	for name, test := range map[string]struct {
		event api.Event
		want  bool
	}{
		"discarded":        {api.Event{}, true},
		"given up":         {shown(api.Attempt{DurationMS: attemptTimeout.Milliseconds()}), true},
		"answered in time": {shown(api.Attempt{Status: http.StatusOK, DurationMS: 20}), false},
		"failed at once":   {shown(api.Attempt{DurationMS: 20}), false},
		"never recorded":   {shown(), false},
		"given up, by another": {api.Event{Deliveries: []api.Delivery{
			{Destination: "flaky"}, {Destination: "steady", Attempts: []api.Attempt{{DurationMS: attemptTimeout.Milliseconds()}}},
		}}, false},
		"given up, the attempt then": {shown(api.Attempt{Status: 500}, api.Attempt{DurationMS: attemptTimeout.Milliseconds()}), false},
	} {
		if got := after.isExplained(test.event); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAlteredBody(t *testing.T) {
	for body, want := range map[string]int{plainTask.body(): 0, plainTask.body() + " ": 1, doomedTask.body(): 1} {
		c := &consumer{name: "steady", ledger: newLedger()}
		c.enter(http.Header{"Relay-Source": {plainSource}, "Relay-Task-Id": {plainTask.task}, "Webhook-Id": {"plain"}}, []byte(body))
		if got := c.ledger.count["altered"]; got != want {
			t.Errorf("%d alterations of %s", got, body)
		}
	}
}

func TestFootprint(t *testing.T) {
	before := footprint{goroutines: 100, descriptors: 50, heap: 20 << 20}
	for name, test := range map[string]struct {
		after footprint
		want  string
	}{
		"the same":         {before, ""},
		"kept connections": {footprint{110, 50 + keptConnections, 60 << 20}, ""},
		"goroutines":       {footprint{150, 50, 20 << 20}, "goroutines"},
		"descriptors":      {footprint{100, 70 + keptConnections, 20 << 20}, "descriptors"},
		"memory":           {footprint{100, 50, 110 << 20}, "memory"},
	} {
		if got := test.after.exceeds(before); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestEndOfAGateway has processes end that are expected to run, or that log what none should.
func TestEndOfAGateway(t *testing.T) {
	const goesOn = "exec sleep 60"
	for name, test := range map[string]struct {
		logs, then string
		want       int
	}{
		"goes on":                 {"all is well", goesOn, 0},
		"ends":                    {"all is well", "exit 0", 1},
		"panics, and goes on":     {"panic: oh no", goesOn, 1},
		"has a fatal error":       {"fatal error: all goroutines are asleep", "exit 2", 2},
		"has a race, and goes on": {"WARNING: DATA RACE", goesOn, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			process, err := servers.Start(exec.Command("sh", "-c", "echo "+test.logs+"; echo logged; "+test.then))
			if err != nil {
				t.Fatal(err)
			}
			g := &gateway{ledger: newLedger(), process: process, expected: true}
			if !process.Await("logged", patience) {
				t.Fatal("it says nothing")
			}
			if test.then != goesOn {
				<-process.Ended
			}
			g.kill()
			if got := g.ledger.count["ended"]; got != test.want {
				t.Errorf("%d violations %v", got, g.ledger.violation)
			}
		})
	}
}
