package redisstore

import (
	"context"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// LeaseTasks implements relay.TaskStore.
func (s *Store) LeaseTasks(ctx context.Context, l *relay.TaskLease) ([]*relay.LeasedTask, time.Duration, error) {
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer end()
	shards := s.shards(l.Source)
	if len(shards) == 1 {
		leased, next, err := s.leaseTasks(ctx, shards[0], l, l.Max, l.Every)
		return leased, time.Duration(next) * time.Microsecond, err
	}
	return s.leaseTasksOf(ctx, shards, l)
}

// leaseTasksOf leases tasks of several partitions. They are asked first what is due; then one of them says whose turn it is, so
// that the source has no more leases than it may have; and then those with something due are asked, each time another one first.
func (s *Store) leaseTasksOf(ctx context.Context, shards []*shard, l *relay.TaskLease) (leased []*relay.LeasedTask, next time.Duration, err error) {
	calls := make([]*call, len(shards))
	for i, h := range shards {
		calls[i] = taskLeaseCall(h, l, 0, 0)
	}
	s.run(ctx, calls...)
	first, begin := int64(-1), s.turn(len(shards))
	var due []*shard
	for i := range shards {
		i = (begin + i) % len(shards)
		_, wait, failed := s.leasedTasks(shards[i], calls[i])
		if failed != nil {
			err, wait = join(err, failed), time.Second.Microseconds()
		}
		if wait >= 0 && (first < 0 || wait < first) {
			first = wait
		}
		if wait == 0 {
			due = append(due, shards[i])
		}
	}
	if len(due) == 0 {
		return nil, time.Duration(first) * time.Microsecond, err
	}
	pause, failed := s.taskTurn(ctx, shards[0], l.Every)
	if failed != nil || pause > 0 {
		return nil, pause, failed
	}
	for _, h := range due {
		some, _, failed := s.leaseTasks(ctx, h, l, l.Max-len(leased), 0)
		leased, err = append(leased, some...), join(err, failed)
		if len(leased) >= l.Max {
			break
		}
	}
	if len(leased) == 0 && err != nil {
		return nil, 0, err
	}
	return leased, l.Every, nil // what failed is asked again next time
}

// taskTurn asks the partition that says so how long it is until some tasks of the source may be leased. Zero is this gateway's
// turn.
func (s *Store) taskTurn(ctx context.Context, h *shard, every time.Duration) (time.Duration, error) {
	c := &call{script: taskTurnScript, keys: h.block(0), args: []any{every.Microseconds()}}
	if s.run(ctx, c); c.err != nil {
		return 0, c.err
	}
	n, err := c.count()
	return time.Duration(n) * time.Microsecond, err
}

// leaseTasks leases up to most tasks of one partition.
func (s *Store) leaseTasks(ctx context.Context, h *shard, l *relay.TaskLease, most int, every time.Duration) ([]*relay.LeasedTask, int64, error) {
	c := taskLeaseCall(h, l, most, every)
	s.run(ctx, c)
	return s.leasedTasks(h, c)
}

func taskLeaseCall(h *shard, l *relay.TaskLease, most int, every time.Duration) *call {
	return taskCall(taskLeaseScript, h, most, l.For.Microseconds(), every.Microseconds())
}

// leasedTasks reads what a call has leased, and how many microseconds it is until more may be.
func (s *Store) leasedTasks(h *shard, c *call) (leased []*relay.LeasedTask, next int64, err error) {
	if c.err != nil {
		return nil, 0, c.err
	}
	r := c.read()
	next, counts := r.number(), r.taskCount()
	leased = make([]*relay.LeasedTask, r.groups(5))
	for i := range leased {
		t := &relay.LeasedTask{ExpectedTask: relay.ExpectedTask{Source: h.source, TaskID: r.text(), API: r.text()}}
		t.Token, t.Polls, t.Age = uint64(r.number()), int(r.number()), time.Duration(r.number())*time.Microsecond
		leased[i] = t
	}
	if err := r.done(); err != nil {
		return nil, 0, err
	}
	s.taskTally.set(h, counts)
	return leased, next, nil
}
