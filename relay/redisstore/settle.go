package redisstore

import (
	"context"
	"encoding/binary"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

// settleGroups parts settles into those that one script does.
func (s *Store) settleGroups(settles []*relay.Settle) []*group[settling] {
	l := s.layout.Load()
	return grouped(settlings(settles), func(e settling) (h *shard, touched, bytes int) {
		for _, op := range e.ops {
			touched += 1 + len(op.Leased.Awaiting)
			bytes += 100 * len(op.Files)
			if op.Attempt != nil {
				bytes += len(op.Attempt.Error) + len(op.Attempt.Response)
			}
		}
		return l.ofToken(e.ops[0].Leased.Event.Source, e.ops[0].Leased.Token), touched, bytes
	})
}

// settleCall returns the call of settles of one partition. Packed ones come first.
func settleCall(h *shard, settles []settling) *call {
	var destinations, events indexes
	packed, own := 0, make([]any, 0, len(settles))
	for _, e := range settles {
		n := events.index(e.ops[0].Leased.Event.ID)
		if e.packed {
			packed++
			own = append(own, destinations.appendPacked(make([]byte, 0, 1+128*len(e.ops)), e.ops))
		} else {
			own = destinations.appendSettle(own, n, e.ops[0])
		}
	}
	c := &call{script: settleScript, durable: true, keys: destinations.destinations(h, len(events.names))}
	for _, id := range events.names {
		c.keys = append(c.keys, h.event(id))
	}
	c.args = append(destinations.args(make([]any, 0, 2+len(destinations.names)+len(own))), packed)
	c.args = append(c.args, own...)
	return c
}

// appendSettle appends the arguments of a settle by itself, as settle.lua has them.
func (x *indexes) appendSettle(args []any, event int, op *relay.Settle) []any {
	l := op.Leased
	plain, flags := plain(op), byte(0)
	if op.Used {
		flags |= settleUsed
	}
	if plain {
		flags |= settlePlain
	}
	head := binary.BigEndian.AppendUint16(make([]byte, 0, 128), uint16(event))
	head = append(binary.BigEndian.AppendUint16(head, uint16(x.index(l.Destination))), flags)
	args = append(args, appendAttempt(strconv.AppendUint(head, ofScript(l.Token), 10), op.Attempt))
	if plain {
		return args
	}
	args = append(args, int(op.Outcome), op.Delay.Microseconds(), op.Reason, len(l.Awaiting))
	for _, waiter := range l.Awaiting {
		args = append(args, x.index(waiter))
	}
	args = append(args, len(op.Files))
	for i := range op.Files {
		begins, line := encodeFile(&op.Files[i])
		args = append(args, begins, line)
	}
	return args
}

// settledAll sets the outcome of settles of one partition.
func (s *Store) settledAll(h *shard, settles []settling, c *call) {
	list, err := c.list(len(settles))
	for i, e := range settles {
		each, apart := list[i].([]any) // of settles that could not be done in their event's record
		failed := err
		if apart = apart && e.packed; apart && len(each) != len(e.ops) {
			failed = malformed(c.script.name, c.reply)
		}
		for j, op := range e.ops {
			value := list[i]
			if apart && failed == nil {
				value = each[j]
			}
			s.settled(h, op, value, failed)
		}
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
