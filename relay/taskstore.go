package relay

import (
	"context"
	"time"
)

// ExpectedTask is a task that was submitted, and whose final callback is to come.
type ExpectedTask struct {
	Source string
	TaskID string
	// API is the path of the submission, as DetailsReader.DetailsPath wants it. It is empty where that is not known, which
	// only a Recovery with Details can do without.
	API string
	// At is when the task was registered, by the gateway's wall clock, for people to read.
	At time.Time
}

// TaskState is the state of an expected task.
type TaskState string

const (
	TaskExpected   TaskState = "expected"    // its callback may still come in time
	TaskOverdue    TaskState = "overdue"     // its callback has not come in time, so its details are asked
	TaskRecovered  TaskState = "recovered"   // its details had the result, which was accepted in the callback's place
	TaskGivenUp    TaskState = "given_up"    // neither callback nor details have brought a result in time
	TaskCalledBack TaskState = "called_back" // its final callback has come
)

// TaskStates are all states of a task, in the order of its life.
var TaskStates = []TaskState{TaskExpected, TaskOverdue, TaskRecovered, TaskGivenUp, TaskCalledBack}

// Ended reports whether the task is not expected any more.
func (s TaskState) Ended() bool { return s != TaskExpected && s != TaskOverdue }

// Expectation is the request to expect a task.
type Expectation struct {
	ExpectedTask
	// After is how long from now the task is overdue, and polled for the first time.
	After time.Duration
	// Most is how many tasks of the source may be expected at a time.
	Most int
}

// TaskRecord is an expected task as the store has it.
type TaskRecord struct {
	ExpectedTask
	State    TaskState
	Reason   string // what the last poll has found, or why the task was given up
	Polls    int    // polls that were begun
	LastPoll time.Time
	// NextPoll is how long from now the task is polled, where it is expected; zero if that is due.
	NextPoll time.Duration
	EventID  string    // of the event that ended the task; empty if none did
	EndedAt  time.Time // zero while the task is expected
}

// TaskFilter selects expected tasks. Zero fields select all.
type TaskFilter struct {
	Source string
	TaskID string
	State  TaskState
	Limit  int
	Cursor string
}

// TaskCount counts the expected tasks of one source in a store.
type TaskCount struct {
	Source            string
	Expected, Overdue int64
	// Due is how long until something may be due for a poll; zero if something is, negative if no task is expected.
	Due time.Duration
}

// TaskLease asks for due tasks of one source, to poll their details.
type TaskLease struct {
	Source string
	Max    int
	For    time.Duration // how long the lease is valid, by the store's clock
	// Every is the least time between two leases of the source, whichever gateway takes them.
	Every time.Duration
}

// LeasedTask is an expected task in the hands of one poller, until its lease expires.
type LeasedTask struct {
	ExpectedTask
	Token uint64        // fences, as Leased.Token does
	Polls int           // the one that the lease is for included
	Age   time.Duration // how long ago the task was registered, by the store's clock
}

// TaskSettle ends a lease of a task that no event has ended.
type TaskSettle struct {
	Source string
	TaskID string
	Token  uint64
	Reason string // what the poll has found
	// Delay is how long from now the task is polled again.
	Delay time.Duration
	// GivenUp ends the task, for Reason.
	GivenUp bool
}

// TaskStore keeps expected tasks. What ends a task is an Accept with Ends set, in the same step as its event.
type TaskStore interface {
	// Expect registers a task, durably. If the task is expected already, or has ended, nothing changes, unless it was given
	// up or is now submitted to another API: then it is expected anew. A task of which the store has a final event is
	// registered as called back. ErrTooManyTasks where as many of its source are expected as may be.
	Expect(ctx context.Context, e *Expectation) error
	// LeaseTasks leases due tasks, those due first at first, and counts a poll of each. next is how long until something
	// of the source may be leased, or less, which costs a look in vain; negative if no task is expected.
	LeaseTasks(ctx context.Context, l *TaskLease) (leased []*LeasedTask, next time.Duration, err error)
	// SettleTask ends a lease. ErrLeaseLost if the token is not the task's current one, or the task has ended meanwhile.
	SettleTask(ctx context.Context, s *TaskSettle) error
	// Tasks lists tasks, the newest registered first within a source. A page may be short, even empty, and still have a next
	// cursor; the last page has none.
	Tasks(ctx context.Context, f TaskFilter) (tasks []TaskRecord, next string, err error)
	// TaskCounts counts the expected tasks of each source that has, or had, any. It answers from memory and never waits.
	TaskCounts() []TaskCount
}
