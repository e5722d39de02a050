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
	reads  []*read
	paused bool
	err    error
	ended  bool
}

// leasingShard holds the state of one partition in a lease.
type leasingShard struct {
	*shard
	op         *relay.Lease
	due, asked bool
	filled     bool // its quota of the last round
	quota      int  // of this round
	reply      *reply
	err        error
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
		l.shards = append(l.shards, &leasingShard{shard: h, op: op, due: due[h.number]})
	}
	return l
}

// turn returns the number of the partition that is asked first: each time another one.
func (s *Store) turn(partitions int) int { return int(s.turns.Add(1) % uint32(partitions)) }

// leasingRounds bounds how often a lease goes to the partitions: once to those where something is known to be due, once to
// all, once to those that had more than their share, and again where others took theirs meanwhile.
const leasingRounds = 4

// ask chooses the partitions that a round asks, none if the lease is over. None is asked for more than its share of what is left.
func (l *leasing) ask(ctx context.Context, s *Store, n int) {
	before := l.asked
	l.asked = nil
	switch probe := l.op.Probe && len(l.shards) > 1; {
	case l.left == 0 || n == leasingRounds:
	case probe && n == 1: // after what the batch writes
		l.aim(ctx, s)
	case probe && n > 1: // where leases that had expired came before what was aimed at
		l.asked = slices.DeleteFunc(slices.Clone(before), func(h *leasingShard) bool { return !h.filled })
		l.asked = l.asked[:min(len(l.asked), l.left)]
		share(l.left, l.asked)
	case !probe:
		l.choose(n)
	}
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

// took reads what the partitions of a round have given.
func (l *leasing) took(s *Store) {
	for _, h := range l.asked {
		reads, next, paused, err := s.leased(h)
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

// round asks partitions for several leases at the same time: each partition in one script, unless that is too much for one.
type round struct {
	calls []*call
	asked [][]*leasingShard // by call
}

// nextRound returns the calls of the n-th round of leases, none if all are over.
func (s *Store) nextRound(ctx context.Context, leasings []*leasing, n int) (r round) {
	var all []*leasingShard
	for _, l := range leasings {
		if !l.ended {
			l.ask(ctx, s, n)
			all = append(all, l.asked...)
		}
	}
	for _, g := range grouped(all, func(h *leasingShard) (*shard, int, int) {
		return h.shard, 2 * h.quota, 0 // as many leases that have expired may be looked at
	}) {
		r.add(g.shard, g.ops)
	}
	return r
}

// add adds the call of leases of one partition.
func (r *round) add(h *shard, asked []*leasingShard) {
	c := &call{script: leaseScript, keys: h.block(blockSize * len(asked))}
	for _, a := range asked {
		c.keys = h.queue(c.keys, a.op.Destination)
		c.args = append(c.args, a.op.Destination, a.quota, a.op.For.Microseconds(), a.op.Probe)
	}
	r.calls, r.asked = append(r.calls, c), append(r.asked, asked)
}

// parted adds to a round a script for each lease of those that Redis has refused together, and for those that have failed among
// others: it need not be the fault of all. done goes by the last script of a lease.
func (s *Store) parted(ctx context.Context, r round) round {
	var apart round
	for i, c := range r.calls {
		list, err := c.list(len(r.asked[i]))
		for j, h := range r.asked[i] {
			if len(list) > 1 && (refused(c) || err == nil && list[j] == nil) {
				apart.add(h.shard, []*leasingShard{h})
			}
		}
	}
	if len(apart.calls) > 0 {
		s.run(ctx, apart.calls...)
	}
	return round{append(r.calls, apart.calls...), append(r.asked, apart.asked...)}
}

// done hands the partitions what their scripts have returned.
func (r *round) done() {
	for i, c := range r.calls {
		list, err := c.list(len(r.asked[i]))
		for j, h := range r.asked[i] {
			if h.reply, h.err = nil, err; err == nil {
				h.reply = readReply(c.script.name, list[j])
			}
		}
	}
}

// lease goes on with leases whose first round was made, and returns what is still to be read of them.
func (s *Store) lease(ctx context.Context, leasings []*leasing, r round) (reads []*read) {
	for n := 1; ; n++ {
		r = s.parted(ctx, r)
		r.done()
		for _, l := range leasings {
			if !l.ended {
				l.took(s)
			}
		}
		r = s.nextRound(ctx, leasings, n)
		for _, l := range leasings {
			if !l.ended && len(l.asked) == 0 { // what later leases of the batch take is not seen yet
				l.end(s)
				reads = append(reads, l.reads...)
			}
		}
		if len(r.calls) == 0 {
			return slices.Clip(reads)
		}
		s.run(ctx, r.calls...)
	}
}
