package redisstore

import (
	"context"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

func (s *Store) settleCall(op *relay.Settle) *call {
	e, d := op.Leased.Event, op.Leased.Destination
	waiters := op.Leased.Awaiting
	keys := append(s.keys.source(e.Source, 1+blockSize*(1+len(waiters))), s.keys.event(e.Source, e.ID))
	keys = s.keys.destination(keys, e.Source, d)
	args := make([]any, 0, 9+len(waiters)+2*len(op.Files))
	args = append(args, e.ID, d, strconv.FormatUint(op.Leased.Token, 10), int(op.Outcome), op.Delay.Microseconds(), op.Used,
		encodeAttempt(op.Attempt), op.Reason, len(waiters))
	for _, waiter := range waiters {
		keys = s.keys.destination(keys, e.Source, waiter)
		args = append(args, waiter)
	}
	for i := range op.Files {
		begins, line := encodeFile(&op.Files[i])
		args = append(args, begins, line)
	}
	return &call{script: settleScript, keys: keys, args: args, durable: true}
}

func (s *Store) settled(op *relay.Settle, c *call) {
	op.Err, op.Unblocked, op.Freed = c.err, false, nil
	if op.Err != nil {
		return
	}
	r := c.read()
	done := r.number() == 1
	unblocked := done && r.number() == 1
	var freed []string
	for range r.groups(1) {
		freed = append(freed, r.text())
	}
	if op.Err = r.done(); op.Err != nil {
		return
	}
	if !done {
		op.Err = relay.ErrLeaseLost
		return
	}
	name := relay.DestinationName{Source: op.Leased.Event.Source, Destination: op.Leased.Destination}
	s.tally.add(name, func(c *relay.Count) {
		c.InFlight--
		switch op.Outcome {
		case relay.OutcomeDelivered:
			c.Delivered++
		case relay.OutcomeDead:
			c.Dead++
		default:
			c.Pending++
		}
	})
	op.Unblocked, op.Freed = unblocked, freed
	for _, d := range freed {
		s.tell(relay.DestinationName{Source: name.Source, Destination: d})
	}
	if op.Unblocked || op.Outcome == relay.OutcomeRelease {
		s.tell(name)
	}
}

// settleAll settles deliveries that have just been leased, in one pipeline with a timeout of its own.
func (s *Store) settleAll(reads []*read, outcome relay.Outcome, reason string) []*relay.Settle {
	if len(reads) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Timeout)
	defer cancel()
	ops, calls := make([]*relay.Settle, len(reads)), make([]*call, len(reads))
	for i, r := range reads {
		ops[i] = &relay.Settle{Leased: r.leased, Outcome: outcome, Reason: reason}
		calls[i] = s.settleCall(ops[i])
	}
	s.run(ctx, calls...)
	for i, op := range ops {
		s.settled(op, calls[i])
	}
	return ops
}
