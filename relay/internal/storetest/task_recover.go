package storetest

import (
	"errors"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// recoveredEvent is an event as a poll makes it.
func recoveredEvent(task string) *relay.Event {
	ev := newEvent(task)
	ev.Origin = relay.OriginRecovered
	return ev
}

// recover accepts what a poll of the task "one" has found.
func (b *bench) recover() *relay.Event {
	b.t.Helper()
	ev := recoveredEvent("one")
	b.wantResult(b.end(ev, relay.EndingSuccess), relay.Accepted, ev)
	return ev
}

func taskRecovered(b *bench) {
	b.expect("one")
	b.Advance(11 * time.Minute)
	l := b.leaseTask("one")
	ev := b.recover()
	b.wantTask("one", relay.TaskRecovered, ev.ID)
	b.wantTaskCounts(0, 0)
	if rec, err := b.Store.Event(b.ctx(), ev.ID); err != nil || rec.Origin != relay.OriginRecovered || len(rec.Deliveries) != 1 {
		b.t.Fatalf("event %+v, %v", rec, err)
	}
	err := b.Store.SettleTask(b.ctx(), &relay.TaskSettle{Source: source, TaskID: "one", Token: l.Token, Delay: time.Second})
	if !errors.Is(err, relay.ErrLeaseLost) {
		b.t.Fatalf("settled after its end: %v", err)
	}
	op := b.end(inDoubt(ev), relay.EndingSuccess) // whoever did not see the answer applies it again
	b.wantResult(op, relay.Accepted, ev)
	b.wantTask("one", relay.TaskRecovered, ev.ID)
}

func taskUnexpected(b *bench) {
	refused := func(ending relay.Ending) {
		b.t.Helper()
		ev := recoveredEvent("one")
		if op := b.end(ev, ending); op.Result != relay.Unexpected || len(op.Leased) > 0 {
			b.t.Fatalf("result %d", op.Result)
		}
		if !b.gone(ev) {
			b.t.Fatal("stored all the same")
		}
	}
	refused(relay.EndingSuccess) // nobody expects it
	b.expect("one")
	ev := newEvent("one")
	ops := []*relay.Accept{
		{Event: ev, Window: window, Ends: relay.EndingSuccess},
		{Event: recoveredEvent("one"), Window: window, Ends: relay.EndingSuccess},
	}
	b.apply(&relay.Batch{Accepts: ops}) // in one batch, too
	if ops[0].Result != relay.Accepted || ops[1].Result != relay.Unexpected {
		b.t.Fatalf("results %d, %d", ops[0].Result, ops[1].Result)
	}
	refused(relay.EndingFailure)
	b.wantTask("one", relay.TaskCalledBack, ev.ID)
}

func taskLateCallback(b *bench) {
	b.expect("one")
	ev := b.recover()
	same := repeated(ev)
	same.Origin = relay.OriginCallback
	b.wantResult(b.end(same, relay.EndingSuccess), relay.Duplicate, ev)
	other := newEvent("one") // neither key nor files are those of the details
	other.Code, other.Fingerprint = "0", conflicting(ev, 1).Fingerprint
	b.wantResult(b.end(other, relay.EndingSuccess), relay.Conflict, ev)
	b.wantResult(b.end(repeated(other), relay.EndingSuccess), relay.Conflict, ev)
	rec, err := b.Store.Event(b.ctx(), ev.ID)
	b.must(err)
	if rec.Duplicates != 1 || rec.Conflicts != 2 || len(rec.Variants) != 1 || string(rec.Variants[0].Body) != string(other.Body) {
		b.t.Fatalf("%d duplicates, %d conflicts, %d variants", rec.Duplicates, rec.Conflicts, len(rec.Variants))
	}
	b.wantTask("one", relay.TaskRecovered, ev.ID)
	b.wantCounts(billing, 1, 0, 0, 0)
}

// A callback whose accept was in doubt when the task was recovered is known by its own id.
func taskInDoubt(b *bench) {
	ev := newEvent("one")
	b.put(ev)
	b.expect("one")
	b.wantTask("one", relay.TaskCalledBack, ev.ID)
	b.wantResult(b.end(inDoubt(ev), relay.EndingSuccess), relay.Accepted, ev)

	next := expectation("one") // of another API, where the details had the result first
	next.API = "api/v1/other"
	b.must(b.Store.Expect(b.ctx(), next))
	b.recover()
	again := b.end(inDoubt(ev), relay.EndingSuccess)
	b.wantResult(again, relay.Accepted, ev)
	if again.Event.Seq != ev.Seq {
		b.t.Fatalf("sequence %d, was %d", again.Event.Seq, ev.Seq)
	}
}

func taskOtherOutcome(b *bench) {
	b.expect("one")
	ev := b.recover()
	failure := newEvent("one")
	b.wantResult(b.end(failure, relay.EndingFailure), relay.Accepted, failure)
	b.wantTask("one", relay.TaskRecovered, ev.ID)

	b.expect("two") // what has ended by no final stage is not what a later callback repeats
	other := recoveredEvent("two")
	b.wantResult(b.end(other, relay.EndingOther), relay.Accepted, other)
	success := newEvent("two")
	b.wantResult(b.end(success, relay.EndingSuccess), relay.Accepted, success)
}

func taskVeryLate(b *bench) {
	b.expect("one")
	b.recover()
	b.Advance(window + time.Minute)
	ev := newEvent("one")
	b.wantResult(b.end(ev, relay.EndingSuccess), relay.Accepted, ev)
}

func taskSeparate(b *bench) {
	end := func(ev *relay.Event) *relay.Accept {
		b.t.Helper()
		op := &relay.Accept{Event: ev, Window: window, Separate: true, Ends: relay.EndingSuccess}
		b.apply(&relay.Batch{Accepts: []*relay.Accept{op}})
		return op
	}
	first := newEvent("one")
	first.Stage = "first"
	b.put(first)
	b.expect("one")
	found := conflicting(first, 1) // is kept beside the first
	found.Origin = relay.OriginRecovered
	b.wantResult(end(found), relay.Accepted, found)
	b.wantTask("one", relay.TaskRecovered, found.ID)
	b.wantResult(end(conflicting(first, 2)), relay.Conflict, found)
	called := repeated(found)
	called.Origin = relay.OriginCallback
	b.wantResult(end(called), relay.Duplicate, found)
}
