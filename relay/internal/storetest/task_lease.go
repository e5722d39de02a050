package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func (b *bench) leaseTasks(most int) ([]*relay.LeasedTask, time.Duration) {
	b.t.Helper()
	leased, next, err := b.Store.LeaseTasks(b.ctx(), &relay.TaskLease{Source: source, Max: most, For: leaseFor})
	b.must(err)
	return leased, next
}

func (b *bench) leaseTask(name string) *relay.LeasedTask {
	b.t.Helper()
	leased, _ := b.leaseTasks(1)
	if len(leased) != 1 || leased[0].TaskID != name {
		b.t.Fatalf("leased %v, want %s", leased, name)
	}
	return leased[0]
}

func taskLeased(b *bench) {
	b.expect("one")
	b.Advance(time.Minute)
	b.expect("two")
	leased, next := b.leaseTasks(5)
	if len(leased) > 0 || next <= 9*time.Minute-slack || next > 9*time.Minute {
		b.t.Fatalf("leased %d, next %v", len(leased), next)
	}
	b.Advance(9*time.Minute + time.Second)
	l := b.leaseTask("one")
	if l.API != taskAPI || l.Polls != 1 || l.Age < 10*time.Minute || l.Age > 10*time.Minute+slack || l.Token == 0 {
		b.t.Fatalf("leased %+v", l)
	}
	if t := b.wantTask("one", relay.TaskOverdue, ""); t.Polls != 1 || t.LastPoll.IsZero() {
		b.t.Fatalf("task %+v", t)
	}
	b.wantTask("two", relay.TaskExpected, "")
	b.wantTaskCounts(1, 1)
	if leased, next := b.leaseTasks(5); len(leased) > 0 || next <= 0 || next > leaseFor {
		b.t.Fatalf("leased %d, next %v", len(leased), next)
	}
	b.Advance(time.Minute)
	if leased, _ := b.leaseTasks(5); len(leased) != 2 {
		b.t.Fatalf("leased %d", len(leased))
	}
}

func taskSpaced(b *bench) {
	b.expect("one")
	b.expect("two")
	b.Advance(11 * time.Minute)
	ask := func() (int, time.Duration) {
		b.t.Helper()
		leased, next, err := b.Store.LeaseTasks(b.ctx(), &relay.TaskLease{Source: source, Max: 1, For: time.Hour, Every: time.Minute})
		b.must(err)
		return len(leased), next
	}
	for i, want := range []int{1, 0, 1, 0} {
		n, next := ask()
		if n != want || next < time.Minute-slack {
			b.t.Fatalf("ask %d leased %d, next %v", i, n, next)
		}
		if i == 1 {
			b.Advance(time.Minute)
		}
	}
}

func taskLeaseExpires(b *bench) {
	b.expect("one")
	b.Advance(11 * time.Minute)
	lost := b.leaseTask("one")
	b.Advance(leaseFor + time.Second)
	again := b.leaseTask("one")
	if again.Token == lost.Token || again.Polls != 2 {
		b.t.Fatalf("leased %+v, then %+v", lost, again)
	}
	settle := func(l *relay.LeasedTask) error {
		return b.Store.SettleTask(b.ctx(), &relay.TaskSettle{Source: source, TaskID: "one", Token: l.Token, Reason: "PENDING", Delay: time.Minute})
	}
	if err := settle(lost); !errors.Is(err, relay.ErrLeaseLost) {
		b.t.Fatalf("settled with a token of before: %v", err)
	}
	b.must(settle(again))
	if err := settle(again); !errors.Is(err, relay.ErrLeaseLost) {
		b.t.Fatalf("settled twice: %v", err)
	}
}

func taskPolledAgain(b *bench) {
	b.expect("one")
	b.Advance(11 * time.Minute)
	for i := range 3 {
		l := b.leaseTask("one")
		reason := fmt.Sprintf("PENDING %d", i)
		b.must(b.Store.SettleTask(b.ctx(), &relay.TaskSettle{Source: source, TaskID: "one", Token: l.Token, Reason: reason, Delay: time.Minute}))
		if t := b.wantTask("one", relay.TaskOverdue, ""); t.Reason != reason || t.Polls != i+1 || t.NextPoll <= time.Minute-slack || t.NextPoll > time.Minute {
			b.t.Fatalf("task %+v", t)
		}
		if leased, _ := b.leaseTasks(1); len(leased) > 0 {
			b.t.Fatal("leased before its time")
		}
		b.Advance(time.Minute + time.Second)
	}
}

func taskGivenUp(b *bench) {
	b.expect("one")
	b.Advance(11 * time.Minute)
	l := b.leaseTask("one")
	b.must(b.Store.SettleTask(b.ctx(), &relay.TaskSettle{Source: source, TaskID: "one", Token: l.Token, Reason: "no such API", GivenUp: true}))
	if t := b.wantTask("one", relay.TaskGivenUp, ""); t.Reason != "no such API" {
		b.t.Fatalf("task %+v", t)
	}
	b.wantTaskCounts(0, 0)
	if op := b.end(recoveredEvent("one"), relay.EndingSuccess); op.Result != relay.Unexpected {
		b.t.Fatalf("result %d", op.Result)
	}
	b.expect("one") // an operator asks for it anew
	b.wantTaskCounts(1, 0)
	b.Advance(11 * time.Minute)
	l = b.leaseTask("one")
	b.must(b.Store.SettleTask(b.ctx(), &relay.TaskSettle{Source: source, TaskID: "one", Token: l.Token, GivenUp: true}))
	ev := newEvent("one")
	b.wantResult(b.end(ev, relay.EndingSuccess), relay.Accepted, ev)
	b.wantTask("one", relay.TaskCalledBack, ev.ID)
	b.wantTaskCounts(0, 0)
}
