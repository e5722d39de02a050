package redisstore

import (
	"context"
	"encoding/binary"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

// settleGroups parts settles into those that one script does.
func (s *Store) settleGroups(settles []*relay.Settle) []*group[*relay.Settle] {
	l := s.layout.Load()
	return grouped(settles, func(op *relay.Settle) (*shard, int, int) {
		bytes := 100 * len(op.Files)
		if op.Attempt != nil {
			bytes += len(op.Attempt.Error) + len(op.Attempt.Response)
		}
		return l.ofToken(op.Leased.Event.Source, op.Leased.Token), 1 + len(op.Leased.Awaiting), bytes
	})
}

// settleCall makes the call of settles of one partition.
func (s *Store) settleCall(h *shard, settles []*relay.Settle) *call {
	var destinations, events indexes
	own := make([]any, 0, len(settles))
	for _, op := range settles {
		l := op.Leased
		plain, flags := plain(op), byte(0)
		if op.Used {
			flags |= settleUsed
		}
		if plain {
			flags |= settlePlain
		}
		head := binary.BigEndian.AppendUint16(make([]byte, 0, 128), uint16(events.index(l.Event.ID)))
		head = append(binary.BigEndian.AppendUint16(head, uint16(destinations.index(l.Destination))), flags)
		own = append(own, appendAttempt(strconv.AppendUint(head, ofScript(l.Token), 10), op.Attempt))
		if plain {
			continue
		}
		own = append(own, int(op.Outcome), op.Delay.Microseconds(), op.Reason, len(l.Awaiting))
		for _, waiter := range l.Awaiting {
			own = append(own, destinations.index(waiter))
		}
		own = append(own, len(op.Files))
		for i := range op.Files {
			begins, line := encodeFile(&op.Files[i])
			own = append(own, begins, line)
		}
	}
	c := &call{script: settleScript, durable: true, keys: destinations.destinations(h, len(events.names))}
	for _, id := range events.names {
		c.keys = append(c.keys, h.event(id))
	}
	c.args = append(destinations.args(make([]any, 0, 1+len(destinations.names)+len(own))), own...)
	return c
}

// settledAll sets the outcome of settles of one partition.
func (s *Store) settledAll(h *shard, settles []*relay.Settle, c *call) {
	list, err := c.list(len(settles))
	for i, op := range settles {
		s.settled(h, op, list[i], err)
	}
}

// settled sets the outcome of a settle by what the script has returned of it.
func (s *Store) settled(h *shard, op *relay.Settle, value any, err error) {
	op.Err, op.Unblocked, op.Freed = err, false, nil
	if op.Err != nil {
		return
	}
	var freed []string
	unblocked := false
	if value != any(int64(1)) {
		r := readReply(settleScript.name, value)
		done := r.number() == 1
		unblocked = done && r.number() == 1
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
	}
	name := relay.DestinationName{Source: op.Leased.Event.Source, Destination: op.Leased.Destination}
	s.tally.add(h, name.Destination, func(c *relay.Count) {
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
		s.horizon.soon(h, d, 0)
		s.tell(relay.DestinationName{Source: name.Source, Destination: d})
	}
	switch {
	case op.Unblocked, op.Outcome == relay.OutcomeRelease:
		s.horizon.soon(h, name.Destination, 0)
		s.tell(name)
	case op.Outcome == relay.OutcomeRetry:
		s.horizon.soon(h, name.Destination, op.Delay)
	}
}

// settleAll settles deliveries that have just been leased, in one pipeline with a timeout of its own.
func (s *Store) settleAll(reads []*read, outcome relay.Outcome, reason string) []*relay.Settle {
	if len(reads) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Timeout)
	defer cancel()
	ops := make([]*relay.Settle, len(reads))
	for i, r := range reads {
		ops[i] = &relay.Settle{Leased: r.leased, Outcome: outcome, Reason: reason}
	}
	s.apply(ctx, &relay.Batch{Settles: ops})
	return ops
}
