package redisstore

import (
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

// settling is settles of one event: those of several of its deliveries, if all are packed, or a single one.
type settling struct {
	packed bool
	ops    []*relay.Settle
}

// packable reports whether a settle can be done in its event's record alone: its delivery was delivered by the lease that the record
// has, no other one may wait for it, and it stored no file.
func packable(op *relay.Settle) bool { return plain(op) && place(op) != 0 }

// plain reports whether a settle is for a delivery that was delivered, that no other one may wait for, and that stored no file.
func plain(op *relay.Settle) bool {
	return op.Outcome == relay.OutcomeDelivered && len(op.Leased.Awaiting) == 0 && len(op.Files) == 0
}

// maxPlaces is how many deliveries of an event can be settled in its record.
const maxPlaces = 0xff

// place returns the place of a settle's delivery in its event's record, negative if it has waited for its first lease there, or 0
// if this is another lease.
func place(op *relay.Settle) int {
	l := op.Leased
	n := int64(ofScript(l.Token)) - l.Event.Seq
	if l.Token&packedToken == 0 || max(n, -n) > maxPlaces {
		return 0
	}
	return int(n)
}

// settlings parts the settles of a batch by events, those that are packed first. An event comes in single ones, which are done in
// their order, if not all of its settles are packable or two name one place.
func settlings(settles []*relay.Settle) (all []settling) {
	events := make(map[string]*settling, len(settles))
	for _, op := range settles {
		id := op.Leased.Event.ID
		e := events[id]
		if e == nil {
			e = &settling{packed: true}
			events[id] = e
		}
		again := slices.ContainsFunc(e.ops, func(other *relay.Settle) bool { return depth(other) == depth(op) })
		e.ops = append(e.ops, op)
		e.packed = e.packed && !again && packable(op)
	}
	var single []settling
	for _, op := range settles {
		switch e := events[op.Leased.Event.ID]; {
		case !e.packed:
			single = append(single, settling{ops: []*relay.Settle{op}})
		case e.ops[0] == op:
			all = append(all, *e)
		}
	}
	return append(all, single...)
}

// depth returns a settle's place without its sign.
func depth(op *relay.Settle) int { return max(place(op), -place(op)) }

// waitedBit is set in the number of the destination of a delivery that has waited for its first lease.
const waitedBit = 1 << 15

// appendPacked appends the settles of an event that are all packed, as settle_packed.lua has them.
func (x *indexes) appendPacked(b []byte, ops []*relay.Settle) []byte {
	b = append(b, byte(len(ops)))
	for _, op := range ops {
		d := uint16(x.index(op.Leased.Destination))
		if place(op) < 0 {
			d |= waitedBit
		}
		b = binary.BigEndian.AppendUint16(append(b, byte(depth(op))), d)
	}
	for _, op := range ops {
		b = appendOutcome(b, op)
	}
	return b
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
	return appendAttempt(append(strconv.AppendInt(append(b, '\n'), int64(depth(op)), 10), ' ', used), op.Attempt)
}
