package sqlitestore

import (
	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// endedTask is an expected task that an accept has ended.
type endedTask struct{ source, overdue int64 }

// acceptEnding accepts an event that ends its task, and ends that in the same transaction.
func (s *Store) acceptEnding(tx *transaction, op *relay.Accept) error {
	source := s.sources[op.Event.Source]
	t, err := s.expectedTask(source, op.Event.TaskID)
	if err != nil {
		return err
	}
	recovered := op.Event.Origin == relay.OriginRecovered
	switch {
	case t == nil && !recovered:
		return s.accept(tx, op)
	case recovered && (t == nil || t.state != taskOpen && t.event.String() != op.Event.ID):
		op.Err, op.Leased, op.ConflictWith, op.FirstID, op.Result = nil, nil, "", "", relay.Unexpected
		return nil
	case !recovered && t.state == taskRecovered && t.ending == op.Ends:
		if f, err := s.remembered(recentKey{source, t.key}, tx.now-ceil(op.Window)); err != nil {
			return err
		} else if f != nil {
			return s.acceptAsRecovered(tx, op, t)
		}
	}
	if err := s.accept(tx, op); err != nil || op.Err != nil {
		return err
	}
	state := int64(taskCalledBack)
	switch {
	case recovered && op.Result == relay.Accepted:
		state = taskRecovered
	case !recovered && op.Result != relay.Accepted && op.Result != relay.Duplicate && op.Result != relay.Conflict:
		return nil // nothing was stored
	}
	if t.state != taskOpen && (recovered || t.state != taskGivenUp) {
		return nil
	}
	first, err := ulid.ParseStrict(op.FirstID)
	if err != nil {
		return err
	}
	if t.state == taskOpen {
		tx.tasks = append(tx.tasks, endedTask{source, t.overdue})
	}
	key := op.Event.Key
	if op.ConflictWith != "" {
		key = op.Event.SeparateKey()
	}
	return s.endTask(tx.now, t.seq, state, &key, first, op.Ends)
}

// acceptAsRecovered accepts a callback under the key of the recovered event that had said the same before.
func (s *Store) acceptAsRecovered(tx *transaction, op *relay.Accept, t *expectedRow) error {
	ev := *op.Event
	ev.Key = t.key
	stand := *op
	stand.Event, stand.Separate = &ev, false
	err := s.accept(tx, &stand)
	op.Event.Seq = ev.Seq
	op.Result, op.FirstID, op.ConflictWith, op.Leased, op.Err = stand.Result, stand.FirstID, "", nil, stand.Err
	return err
}

// endTasks notes in memory the tasks that a transaction has ended. The caller holds mem.
func (s *Store) endTasks(tx *transaction) {
	for _, e := range tx.tasks {
		s.tasksOf(e.source).closed(e.overdue)
	}
}
