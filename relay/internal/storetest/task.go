package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var taskTests = []test{
	{"expected, then called back", taskCalledBack},
	{"registered once", taskOnce},
	{"submitted to another API", taskOtherAPI},
	{"too many", taskTooMany},
	{"called back before it was registered", taskCallbackFirst},
	{"called back before its end", taskProgress},
	{"leased when it is due, once", taskLeased},
	{"leases are spaced", taskSpaced},
	{"a lease that expires", taskLeaseExpires},
	{"polled again", taskPolledAgain},
	{"given up, and called back all the same", taskGivenUp},
	{"recovered", taskRecovered},
	{"recovered only while it is expected", taskUnexpected},
	{"a callback after the recovery", taskLateCallback},
	{"a callback after the recovery, in doubt", taskInDoubt},
	{"another outcome after the recovery", taskOtherOutcome},
	{"a callback long after the recovery", taskVeryLate},
	{"events of their own", taskSeparate},
	{"lists", taskLists},
	{"lasts", taskLasts},
	{"purged", taskPurged},
	{"two gateways", taskShared},
}

const taskAPI = "api/v1/vocal-removal/generate"

func expectation(task string) *relay.Expectation {
	return &relay.Expectation{
		ExpectedTask: relay.ExpectedTask{Source: source, TaskID: task, API: taskAPI, At: time.UnixMilli(1_800_000_000_000)},
		After:        10 * time.Minute, Most: 100,
	}
}

func (b *bench) expect(task string) {
	b.t.Helper()
	b.must(b.Store.Expect(b.ctx(), expectation(task)))
}

// end accepts an event that ends its task.
func (b *bench) end(ev *relay.Event, ending relay.Ending) *relay.Accept {
	b.t.Helper()
	op := &relay.Accept{Event: ev, Window: window, Deliveries: to(billing), Ends: ending}
	b.apply(&relay.Batch{Accepts: []*relay.Accept{op}})
	return op
}

func (b *bench) task(name string) relay.TaskRecord {
	b.t.Helper()
	tasks, _, err := b.Store.Tasks(b.ctx(), relay.TaskFilter{Source: source, TaskID: name})
	b.must(err)
	if len(tasks) != 1 {
		b.t.Fatalf("%d tasks are named %s", len(tasks), name)
	}
	return tasks[0]
}

func (b *bench) wantTask(name string, state relay.TaskState, event string) relay.TaskRecord {
	b.t.Helper()
	t := b.task(name)
	if t.State != state || t.EventID != event || t.EndedAt.IsZero() == state.Ended() {
		b.t.Fatalf("task %+v, want %s by %q", t, state, event)
	}
	return t
}

func (b *bench) wantTaskCounts(expected, overdue int64) relay.TaskCount {
	b.t.Helper()
	if b.Refresh != nil {
		b.Refresh(b.Store)
	}
	for _, c := range b.Store.TaskCounts() {
		if c.Source == source {
			if b.Refresh != nil && (c.Expected != expected || c.Overdue != overdue) || c.Expected+c.Overdue != expected+overdue {
				b.t.Fatalf("counts %+v, want %d expected and %d overdue", c, expected, overdue)
			}
			return c
		}
	}
	if expected+overdue > 0 {
		b.t.Fatal("there are no counts")
	}
	return relay.TaskCount{Due: -1}
}

func taskCalledBack(b *bench) {
	b.expect("one")
	if t := b.wantTask("one", relay.TaskExpected, ""); t.API != taskAPI || !t.At.Equal(expectation("").At) || t.Polls != 0 ||
		t.NextPoll <= 10*time.Minute-slack || t.NextPoll > 10*time.Minute {
		b.t.Fatalf("task %+v", t)
	}
	if c := b.wantTaskCounts(1, 0); c.Due <= 10*time.Minute-slack || c.Due > 10*time.Minute {
		b.t.Fatalf("due in %v", c.Due)
	}
	ev := newEvent("one")
	b.wantResult(b.end(ev, relay.EndingSuccess), relay.Accepted, ev)
	b.wantTask("one", relay.TaskCalledBack, ev.ID)
	if c := b.wantTaskCounts(0, 0); c.Due >= 0 {
		b.t.Fatalf("due in %v", c.Due)
	}
	b.Advance(time.Hour)
	if leased, next := b.leaseTasks(5); len(leased) > 0 || next >= 0 {
		b.t.Fatalf("leased %d, next %v", len(leased), next)
	}
}

func taskOnce(b *bench) {
	b.expect("one")
	b.Advance(9 * time.Minute)
	b.expect("one")
	unknown := expectation("one")
	unknown.API = ""
	b.must(b.Store.Expect(b.ctx(), unknown))
	b.wantTaskCounts(1, 0)
	b.Advance(time.Minute + time.Second)
	b.leaseTask("one")
	ev := newEvent("one")
	b.end(ev, relay.EndingSuccess)
	b.expect("one")
	b.wantTask("one", relay.TaskCalledBack, ev.ID)
}

// One task id may go through several APIs, one after the other.
func taskOtherAPI(b *bench) {
	b.expect("voice")
	ev := newEvent("voice")
	b.end(ev, relay.EndingSuccess)
	next := expectation("voice")
	next.API = "api/v1/voice/generate"
	b.must(b.Store.Expect(b.ctx(), next))
	if t := b.wantTask("voice", relay.TaskExpected, ""); t.API != next.API {
		b.t.Fatalf("task %+v", t)
	}
	b.wantTaskCounts(1, 0)
	next.API = "api/v1/voice/other"
	b.must(b.Store.Expect(b.ctx(), next)) // before the other was called back
	b.wantTaskCounts(1, 0)
	b.Advance(11 * time.Minute)
	if l := b.leaseTask("voice"); l.API != next.API {
		b.t.Fatalf("leased %+v", l)
	}
}

func taskTooMany(b *bench) {
	for _, name := range []string{"one", "two", "three"} {
		e := expectation(name)
		e.Most = 2
		if err := b.Store.Expect(b.ctx(), e); errors.Is(err, relay.ErrTooManyTasks) != (name == "three") {
			b.t.Fatalf("%s: %v", name, err)
		}
	}
	again := expectation("one")
	again.Most = 2
	b.must(b.Store.Expect(b.ctx(), again))
	b.end(newEvent("two"), relay.EndingSuccess)
	again.TaskID = "three"
	b.must(b.Store.Expect(b.ctx(), again))
}

func taskCallbackFirst(b *bench) {
	ev := newEvent("one")
	b.end(ev, relay.EndingFailure) // nobody expects it yet
	b.accept("two", billing)       // of a source that recovered nothing then
	b.expect("one")
	b.wantTask("one", relay.TaskCalledBack, ev.ID)
	b.expect("two")
	if t := b.task("two"); t.State != relay.TaskCalledBack {
		b.t.Fatalf("task %+v", t)
	}
	b.wantTaskCounts(0, 0)
}

func taskProgress(b *bench) {
	first := newEvent("one")
	first.Stage = "first"
	b.put(first)
	b.expect("one")
	b.wantTask("one", relay.TaskExpected, "")
	text := newEvent("one")
	text.Stage = "text"
	b.put(text)
	b.wantTask("one", relay.TaskExpected, "")
}

func taskLists(b *bench) {
	var names []string
	for i := range 7 {
		name := fmt.Sprintf("task-%d", i)
		b.expect(name)
		names = append(names, name)
		b.Advance(time.Second)
	}
	slices.Reverse(names)
	b.end(newEvent("task-3"), relay.EndingSuccess)
	list := func(f relay.TaskFilter) (found []string) {
		b.t.Helper()
		for range 20 {
			tasks, next, err := b.Store.Tasks(b.ctx(), f)
			b.must(err)
			for _, t := range tasks {
				found = append(found, t.TaskID)
			}
			if next == "" {
				return found
			}
			f.Cursor = next
		}
		b.t.Fatal("the pages do not end")
		return nil
	}
	for _, tc := range []struct {
		f    relay.TaskFilter
		want []string
	}{
		{relay.TaskFilter{}, names},
		{relay.TaskFilter{Limit: 2}, names},
		{relay.TaskFilter{Source: source, Limit: 3}, names},
		{relay.TaskFilter{Source: "other"}, nil},
		{relay.TaskFilter{State: relay.TaskCalledBack, Limit: 1}, []string{"task-3"}},
		{relay.TaskFilter{State: relay.TaskOverdue}, nil},
		{relay.TaskFilter{TaskID: "task-3"}, []string{"task-3"}},
		{relay.TaskFilter{TaskID: "task-9"}, nil},
		{relay.TaskFilter{TaskID: "task-3", State: relay.TaskExpected}, nil},
	} {
		if got := list(tc.f); !slices.Equal(got, tc.want) {
			b.t.Errorf("%+v: %v, want %v", tc.f, got, tc.want)
		}
	}
	if _, _, err := b.Store.Tasks(b.ctx(), relay.TaskFilter{Cursor: "no cursor"}); !errors.Is(err, relay.ErrBadCursor) {
		b.t.Errorf("a cursor of nobody: %v", err)
	}
}

func taskLasts(b *bench) {
	b.expect("one")
	b.expect("two")
	b.Advance(11 * time.Minute)
	b.leaseTask("one")
	b.Reopen()
	b.wantTaskCounts(0, 2)
	leased, _ := b.leaseTasks(5)
	if len(leased) != 1 || leased[0].TaskID != "two" {
		b.t.Fatalf("leased %v", leased)
	}
	b.Advance(leaseFor + time.Second)
	if leased, _ := b.leaseTasks(5); len(leased) != 2 || leased[0].Polls != 2 {
		b.t.Fatalf("leased %d", len(leased))
	}
}

func taskPurged(b *bench) {
	p := policy(time.Hour, time.Hour)
	b.expect("ended")
	b.expect("open")
	b.end(newEvent("ended"), relay.EndingSuccess)
	b.Advance(time.Hour - slack)
	b.purge(p)
	b.task("ended")
	b.Advance(slack + time.Second)
	b.purge(p)
	tasks, _, err := b.Store.Tasks(b.ctx(), relay.TaskFilter{})
	if b.must(err); len(tasks) != 1 || tasks[0].TaskID != "open" {
		b.t.Fatalf("left are %v", tasks)
	}
	b.Advance(100 * time.Hour)
	b.purge(p)
	b.wantTask("open", relay.TaskOverdue, "")
}

// Two gateways lease each task once, and one of a callback and a recovery is the task's event.
func taskShared(b *bench) {
	if b.Another == nil {
		b.t.Skip("the store belongs to one process")
	}
	const tasks = 20
	for i := range tasks {
		b.expect(fmt.Sprint("task-", i))
	}
	b.Advance(11 * time.Minute)
	stores := []relay.Store{b.Store, b.Another()}
	var mu sync.Mutex
	polls := map[string]int{}
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			for range tasks {
				leased, _, err := s.LeaseTasks(b.ctx(), &relay.TaskLease{Source: source, Max: 1, For: time.Hour})
				if err != nil {
					b.t.Error(err)
				}
				mu.Lock()
				for _, l := range leased {
					polls[l.TaskID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range tasks {
		name := fmt.Sprint("task-", i)
		if polls[name] != 1 {
			b.t.Errorf("%s was leased %d times", name, polls[name])
		}
		ops := []*relay.Accept{
			{Event: newEvent(name), Window: window, Ends: relay.EndingSuccess},
			{Event: recoveredEvent(name), Window: window, Ends: relay.EndingSuccess},
		}
		for n, s := range stores {
			wg.Go(func() { s.Apply(b.ctx(), &relay.Batch{Accepts: ops[n : n+1]}) })
		}
		wg.Wait()
		b.must(errors.Join(ops[0].Err, ops[1].Err))
		events := b.events(relay.EventFilter{TaskID: name}, nil)
		if len(events) != 1 {
			b.t.Errorf("%s has %d events, results %d, %d", name, len(events), ops[0].Result, ops[1].Result)
		}
	}
}
