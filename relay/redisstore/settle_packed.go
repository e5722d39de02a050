package redisstore

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

// packedEvent is settles of one event that note deliveries of its record as delivered.
type packedEvent struct {
	event *relay.Event
	ops   []*relay.Settle
}

// plain reports whether a settle is for a delivery that was delivered, that no other one may wait for, and that stored no file.
func plain(op *relay.Settle) bool {
	return op.Outcome == relay.OutcomeDelivered && len(op.Leased.Awaiting) == 0 && len(op.Files) == 0
}

// place returns the place of a settle's delivery in its event's record, or 0 if it is not leased there.
func place(op *relay.Settle) int {
	l := op.Leased
	if n := ofScript(l.Token) - uint64(l.Event.Seq); l.Token&packedToken != 0 && n <= 0xff {
		return int(n)
	}
	return 0
}

// packedSettles parts the settles of a batch into those that settle_packed.lua can do, and the rest. What that script leaves is
// done after the batch, so that it gets none where leases follow, which must see what was settled.
func (s *Store) packedSettles(b *relay.Batch) (groups []*group[*packedEvent], rest []*relay.Settle) {
	if len(b.Leases) > 0 {
		return nil, b.Settles
	}
	settles := b.Settles
	var apart map[string]bool // events with other settles, which are done in their order
	for _, op := range settles {
		if !plain(op) || place(op) == 0 {
			if apart == nil {
				apart = map[string]bool{}
			}
			apart[op.Leased.Event.ID] = true
		}
	}
	known := make(map[string]*packedEvent, len(settles))
	var events []*packedEvent
	for _, op := range settles {
		id := op.Leased.Event.ID
		p := known[id]
		if apart[id] || p != nil && len(p.ops) == 0xff {
			rest = append(rest, op)
			continue
		}
		if p == nil {
			p = &packedEvent{event: op.Leased.Event}
			known[id], events = p, append(events, p)
		}
		p.ops = append(p.ops, op)
	}
	l := s.layout.Load()
	return grouped(events, func(p *packedEvent) (*shard, int, int) {
		bytes := 0
		for _, op := range p.ops {
			if op.Attempt != nil {
				bytes += len(op.Attempt.Error) + len(op.Attempt.Response)
			}
		}
		return l.ofToken(p.event.Source, p.ops[0].Leased.Token), len(p.ops), bytes
	}), rest
}

// packedCall makes the call of settles of one partition that are all in their events' records.
func packedCall(h *shard, events []*packedEvent) *call {
	var destinations indexes
	own := make([]any, 0, 2*len(events))
	for _, p := range events {
		slices.SortStableFunc(p.ops, func(a, b *relay.Settle) int { return cmp.Compare(place(a), place(b)) })
		b := append(make([]byte, 0, 1+128*len(p.ops)), byte(len(p.ops)))
		for _, op := range p.ops {
			b = binary.BigEndian.AppendUint16(append(b, byte(place(op))), uint16(destinations.index(op.Leased.Destination)))
		}
		for _, op := range p.ops {
			b = appendOutcome(b, op)
		}
		own = append(own, p.event.ID, b)
	}
	c := &call{script: packedScript, durable: true, keys: h.block(0)}
	c.args = append(destinations.args(make([]any, 0, 1+len(destinations.names)+len(own))), own...)
	return c
}

// appendOutcome appends the line of a delivery that goes to its event's record, if there is anything to say.
func appendOutcome(b []byte, op *relay.Settle) []byte {
	if op.Attempt == nil && !op.Used {
		return b
	}
	used := byte('0')
	if op.Used {
		used = '1'
	}
	return appendAttempt(append(strconv.AppendInt(append(b, '\n'), int64(place(op)), 10), ' ', used), op.Attempt)
}

// packedSettled sets the outcome of settles of one partition, and returns those that are still to be done.
func (s *Store) packedSettled(h *shard, events []*packedEvent, c *call) (left []*relay.Settle) {
	list, err := c.list(len(events))
	for i, p := range events {
		if apart(events, c) || err == nil && list[i] == any(int64(0)) {
			left = append(left, p.ops...)
			continue
		}
		for _, op := range p.ops {
			s.settled(h, op, list[i], err)
		}
	}
	return left
}
