package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Tasks implements relay.TaskStore.
func (s *Store) Tasks(ctx context.Context, f relay.TaskFilter) (tasks []relay.TaskRecord, next string, err error) {
	from, err := parseCursor(f.Cursor)
	if err != nil {
		return nil, "", err
	}
	ctx, end, err := s.beginForOperator(ctx)
	if err != nil {
		return nil, "", err
	}
	defer end()
	sources, err := s.selected(ctx, f.Source)
	if err != nil {
		return nil, "", err
	}
	if f.TaskID != "" {
		var rows []row
		for _, source := range sources {
			rows = append(rows, row{shard: s.layout.Load().ofTask(source, f.TaskID), id: f.TaskID})
		}
		tasks, err = s.readTasks(ctx, rows)
		return slices.DeleteFunc(tasks, func(t relay.TaskRecord) bool { return !matchesTask(&t, f) }), "", err
	}
	var shelves []shelf
	for _, h := range s.allShards(sources) {
		shelves = append(shelves, shelf{shard: h, key: h.taskList()})
	}
	limit := cmp.Or(max(f.Limit, 0), defaultLimit)
	n := min(limit, pageRows)
	for seen := 0; seen < scanRows; seen += n {
		rows, err := s.page(ctx, shelves, from, true, n)
		if err != nil {
			return nil, "", err
		}
		records, err := s.readTasks(ctx, rows)
		if err != nil {
			return nil, "", err
		}
		for i := range records {
			from = &rows[i]
			if matchesTask(&records[i], f) {
				tasks = append(tasks, records[i])
			}
			if len(tasks) == limit && (i+1 < len(rows) || len(rows) == n) {
				return tasks, from.cursor(), nil
			}
		}
		if len(rows) < n {
			return tasks, "", nil
		}
	}
	return tasks, from.cursor(), nil
}

// matchesTask reports whether a filter selects a task; one that is gone has no id.
func matchesTask(t *relay.TaskRecord, f relay.TaskFilter) bool {
	return t.TaskID != "" && (f.State == "" || f.State == t.State)
}

// readTasks reads the records of tasks. One that is not there, or has gone meanwhile, has no id.
func (s *Store) readTasks(ctx context.Context, rows []row) ([]relay.TaskRecord, error) {
	records := make([]relay.TaskRecord, len(rows))
	if len(rows) == 0 {
		return records, nil
	}
	var shards []*shard
	pipe := s.client.Pipeline()
	texts, dues := make([]*redis.StringCmd, len(rows)), make([]*redis.FloatCmd, len(rows))
	for i, r := range rows {
		shards = with(shards, r.shard)
		texts[i] = pipe.HGet(ctx, r.expectedTasks(), r.id)
		dues[i] = pipe.ZScore(ctx, r.expectedDue(), r.id)
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, explain(err)
	}
	clocks, err := s.clocks(ctx, shards)
	if err != nil {
		return nil, err
	}
	for i, r := range rows {
		text, err := texts[i].Result()
		if isNil(err) {
			continue
		}
		if err != nil {
			return nil, explain(err)
		}
		if records[i], err = decodeTask(r, text, int64(dues[i].Val()), clocks[r.shard].now); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// taskRecord is a task's record, as scripts write it. Times are microseconds.
type taskRecord struct {
	API    string `json:"api"`
	At     int64  `json:"at,string"`
	Late   int64  `json:"late,string"`
	State  string `json:"state"`
	Polls  int    `json:"polls,string"`
	Polled int64  `json:"polled,string"`
	Reason string `json:"reason"`
	Event  string `json:"event"`
	Ended  int64  `json:"ended,string"`
}

func decodeTask(r row, text string, due, now int64) (relay.TaskRecord, error) {
	var t taskRecord
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return relay.TaskRecord{}, fmt.Errorf("redis: unreadable record of task %s: %w", r.id, err)
	}
	rec := relay.TaskRecord{
		ExpectedTask: relay.ExpectedTask{Source: r.source, TaskID: r.id, API: t.API, At: time.UnixMicro(t.At)},
		State:        relay.TaskState(t.State), Reason: t.Reason, Polls: t.Polls, EventID: t.Event,
	}
	if t.Polled > 0 {
		rec.LastPoll = time.UnixMicro(t.Polled)
	}
	if t.State != taskOpen {
		rec.EndedAt = time.UnixMicro(t.Ended)
		return rec, nil
	}
	rec.State = relay.TaskExpected
	if t.Late <= now {
		rec.State = relay.TaskOverdue
	}
	rec.NextPoll = time.Duration(max(0, due-now)) * time.Microsecond
	return rec, nil
}
