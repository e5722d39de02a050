package redisstore

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

var (
	//go:embed scripts/task.lua
	taskLua string
	//go:embed scripts/task_accept.lua
	taskAcceptLua string
	//go:embed scripts/task_expect.lua
	taskExpectLua string
	//go:embed scripts/task_lease.lua
	taskLeaseLua string
	//go:embed scripts/task_turn.lua
	taskTurnLua string
	//go:embed scripts/task_settle.lua
	taskSettleLua string
	//go:embed scripts/task_purge.lua
	taskPurgeLua string
)

// The states of an expected task, as its record has them.
const (
	taskOpen       = "open"
	taskRecovered  = string(relay.TaskRecovered)
	taskGivenUp    = string(relay.TaskGivenUp)
	taskCalledBack = string(relay.TaskCalledBack)
)

// taskPrelude begins every script that works on expected tasks.
var taskPrelude = fmt.Sprintf(`local TASK_OPEN, TASK_RECOVERED, TASK_GIVEN_UP, TASK_CALLED_BACK, UNEXPECTED = %q, %q, %q, %q, %d
`, taskOpen, taskRecovered, taskGivenUp, taskCalledBack, relay.Unexpected) + taskLua

// Scripts that do more where tasks are expected call what they add to as a function.
var (
	taskAcceptScript = withCommon("accept", acceptPlainLua, taskPrelude+acceptLua+taskAcceptLua)
	watchScript      = ofSource("watch", taskPrelude+"local function watch()\n"+watchLua+"end\nreturn task_counts(watch())\n")

	taskExpectScript = ofSource("task_expect", taskPrelude+taskExpectLua)
	taskLeaseScript  = ofSource("task_lease", taskPrelude+taskLeaseLua)
	taskTurnScript   = ofSource("task_turn", taskTurnLua)
	taskSettleScript = ofSource("task_settle", taskPrelude+taskSettleLua)
	taskPurgeScript  = ofSource("task_purge", taskPrelude+taskPurgeLua)
)

// taskCounts is how many values a script returns of the expected tasks of a source.
const taskCounts = 3

// taskCount holds what scripts say of the expected tasks of a partition.
type taskCount struct{ expected, overdue, due int64 }

func (r *reply) taskCount() taskCount { return taskCount{r.number(), r.number(), r.number()} }

// taskTally holds what the store believes of expected tasks, as of the last script that has counted them.
type taskTally struct {
	mu     sync.Mutex
	counts map[string]map[int]seenTasks // by source and number of the partition
}

type seenTasks struct {
	taskCount
	at time.Time
}

// set notes the counts of a partition, unless it never had a task.
func (t *taskTally) set(h *shard, c taskCount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, had := t.counts[h.source][h.number]; !had && c.expected+c.overdue == 0 {
		return
	}
	if t.counts == nil {
		t.counts = map[string]map[int]seenTasks{}
	}
	if t.counts[h.source] == nil {
		t.counts[h.source] = map[int]seenTasks{}
	}
	t.counts[h.source][h.number] = seenTasks{c, time.Now()}
}

// beside returns how many tasks of a source are expected in other partitions than one.
func (t *taskTally) beside(h *shard) (n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for number, c := range t.counts[h.source] {
		if number != h.number {
			n += c.expected + c.overdue
		}
	}
	return n
}

// TaskCounts implements relay.TaskStore.
func (s *Store) TaskCounts() (counts []relay.TaskCount) {
	s.taskTally.mu.Lock()
	defer s.taskTally.mu.Unlock()
	for source, partitions := range s.taskTally.counts {
		count := relay.TaskCount{Source: source, Due: -1}
		for _, c := range partitions {
			count.Expected, count.Overdue = count.Expected+c.expected, count.Overdue+c.overdue
			if c.due < 0 {
				continue
			}
			if due := max(0, time.Duration(c.due)*time.Microsecond-time.Since(c.at)); count.Due < 0 || due < count.Due {
				count.Due = due
			}
		}
		counts = append(counts, count)
	}
	return counts
}

// taskCall returns a call of a script on the expected tasks of a partition.
func taskCall(sc *script, h *shard, args ...any) *call {
	return &call{script: sc, keys: h.expected(h.block(taskKeys)), args: args, durable: true}
}

// looks bounds how often the events of a task are looked at while others come.
const looks = 8

// Expect implements relay.TaskStore.
func (s *Store) Expect(ctx context.Context, e *relay.Expectation) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.register(ctx, e.Source); err != nil {
		return err
	}
	h := s.layout.Load().ofTask(e.Source, e.TaskID)
	for range looks {
		final, n, err := s.finalEvent(ctx, h, e.TaskID)
		if err != nil {
			return err
		}
		id, key := "", []byte(nil)
		if final != nil {
			id, key = final.ID, final.Key[:]
		}
		others := s.taskTally.beside(h)
		c := taskCall(taskExpectScript, h, e.TaskID, e.API, e.At.UnixMicro(), e.After.Microseconds(), int64(e.Most)-others, id, key, n)
		if s.run(ctx, c); c.err != nil {
			return c.err
		}
		r := c.read()
		result, counts := r.number(), r.taskCount()
		if err := r.done(); err != nil {
			return err
		}
		s.taskTally.set(h, counts)
		switch result {
		case 0:
			return nil
		case 1:
			return fmt.Errorf("source %q: %w: %d", e.Source, relay.ErrTooManyTasks, others+counts.expected+counts.overdue)
		}
	}
	return fmt.Errorf("%w: redis: the events of task %s change all the time", relay.ErrUnavailable, e.TaskID)
}

// finalEvent finds an event that has ended a task before it was registered, among n events of that task; nil if there is
// none.
func (s *Store) finalEvent(ctx context.Context, h *shard, task string) (final *relay.Event, n int, err error) {
	rows, err := s.page(ctx, []shelf{{shard: h, key: h.tasks(), task: task, byTask: true}}, nil, true, scanRows)
	if err != nil || len(rows) == 0 {
		return nil, 0, err
	}
	headers, err := s.headers(ctx, rows)
	if err != nil {
		return nil, 0, err
	}
	for _, h := range headers {
		if final == nil && h != nil && relay.FinalStage(h.event.Stage) {
			final = h.event
		}
	}
	return final, len(rows), nil
}

// SettleTask implements relay.TaskStore.
func (s *Store) SettleTask(ctx context.Context, op *relay.TaskSettle) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	h := s.layout.Load().ofTask(op.Source, op.TaskID)
	c := taskCall(taskSettleScript, h, op.TaskID, strconv.FormatUint(op.Token, 10), op.Reason, op.Delay.Microseconds(), op.GivenUp)
	if s.run(ctx, c); c.err != nil {
		return c.err
	}
	r := c.read()
	done, counts := r.number() == 1, r.taskCount()
	if err := r.done(); err != nil {
		return err
	}
	s.taskTally.set(h, counts)
	if !done {
		return fmt.Errorf("task %s of source %q: %w", op.TaskID, op.Source, relay.ErrLeaseLost)
	}
	return nil
}
