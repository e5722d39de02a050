package redisstore

import (
	"context"
	"slices"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// leasing is a lease on its way through the partitions of its source. One that fills it spares the others a script, so those
// go first of which the store knows that something is due there. Unless they fill it, all are asked.
type leasing struct {
	op     *relay.Lease
	left   int // how many more may be leased
	shards []*leasingShard
	asked  []*leasingShard // in this round
	calls  []*call         // for those
	reads  []*read
	paused bool
	err    error
	ended  bool
}

// leasingShard holds the state of one partition in a lease.
type leasingShard struct {
	*shard
	due, asked bool
	filled     bool // its quota of the last round
	quota      int  // of this round
}

// newLeasing begins a lease. Each one begins at another partition, so that none is passed over for long.
func (s *Store) newLeasing(op *relay.Lease) *leasing {
	l := &leasing{op: op, left: min(op.Max, relay.MaxTouched/2)}
	op.Err, op.Leased, op.Paused, op.Dead, op.Next = nil, nil, false, nil, -1
	all := s.shards(op.Source)
	first := s.turn(len(all))
	due := s.horizon.due(op, len(all))
	for i := range all {
		h := all[(first+i)%len(all)]
		l.shards = append(l.shards, &leasingShard{shard: h, due: due[h.number]})
	}
	return l
}

// turn returns the number of the partition that is asked first: each time another one.
func (s *Store) turn(partitions int) int { return int(s.turns.Add(1) % uint32(partitions)) }

// leasingRounds bounds how often a lease goes to the partitions: once to those where something is known to be due, once to
// all, once to those that had more than their share, and again where others took theirs meanwhile.
const leasingRounds = 4

// round makes the calls of a round, none if the lease is over. It asks no partition for more than its share of what is left.
func (l *leasing) round(ctx context.Context, s *Store, n int) []*call {
	before := l.asked
	l.asked, l.calls = nil, nil
	switch probe := l.op.Probe && len(l.shards) > 1; {
	case l.left == 0 || n == leasingRounds:
		return nil
	case probe && n == 1: // after what the batch writes
		l.aim(ctx, s)
	case probe && n > 1: // where leases that had expired came before what was aimed at
		l.asked = slices.DeleteFunc(slices.Clone(before), func(h *leasingShard) bool { return !h.filled })
		l.asked = l.asked[:min(len(l.asked), l.left)]
		share(l.left, l.asked)
	case !probe:
		l.choose(n)
	}
	for _, h := range l.asked {
		l.calls = append(l.calls, leaseCall(h.shard, l.op, h.quota))
	}
	return l.calls
}

// choose chooses the partitions that a round asks, and the share of each.
func (l *leasing) choose(n int) {
	var due, unasked []*leasingShard
	for _, h := range l.shards {
		switch h.quota = 0; {
		case h.due:
			due = append(due, h)
		case !h.asked:
			unasked = append(unasked, h)
		}
	}
	switch {
	case len(due) == 0:
		l.asked = unasked
		share(l.left, unasked)
	case n == 0 || len(unasked) == 0:
		l.asked = due[:min(len(due), l.left)]
		share(l.left, l.asked)
	default:
		l.asked = append(due, unasked...)
		share(l.left, due)
	}
}

// share shares out what may be leased.
func share(n int, among []*leasingShard) {
	for i, h := range among {
		h.quota = n / (len(among) - i)
		if n%(len(among)-i) > 0 {
			h.quota++
		}
		n -= h.quota
	}
}

// took reads what the calls of a round have given.
func (l *leasing) took(s *Store) {
	for i, h := range l.asked {
		reads, next, paused, err := s.leased(h.shard, l.op, l.calls[i])
		h.asked, h.due, h.filled = true, false, false
		if err != nil {
			l.err = err
			s.horizon.set(h.shard, l.op.Destination, time.Second) // not at once again
			continue
		}
		l.reads, l.left, l.paused = append(l.reads, reads...), l.left-len(reads), l.paused || paused
		h.filled = len(reads) == h.quota
		h.due = next == 0 && h.filled
		s.horizon.set(h.shard, l.op.Destination, next)
	}
}

// end sets what the lease says besides what it has leased. An error of some partitions must not cost what others have given.
func (l *leasing) end(s *Store) {
	l.ended = true
	l.op.Paused = l.paused && len(l.reads) == 0
	l.op.Next = s.horizon.next(l.op, len(l.shards))
	if len(l.reads) == 0 {
		l.op.Err = l.err
	}
}

// lease goes on with leases whose first round is done, and returns what is still to be read of them.
func (s *Store) lease(ctx context.Context, leasings []*leasing) (reads []*read) {
	for n := 1; ; n++ {
		var calls []*call
		for _, l := range leasings {
			if l.ended {
				continue
			}
			l.took(s)
			next := l.round(ctx, s, n)
			if len(next) == 0 { // what later leases of the batch take is not seen yet
				l.end(s)
				reads = append(reads, l.reads...)
			}
			calls = append(calls, next...)
		}
		if len(calls) == 0 {
			return slices.Clip(reads)
		}
		s.run(ctx, calls...)
	}
}
