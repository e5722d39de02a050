package redisstore

import (
	"context"
	"errors"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Apply implements relay.Store.
func (s *Store) Apply(ctx context.Context, b *relay.Batch) {
	bounded, end, err := s.begin(ctx)
	if err != nil {
		fail(b, err)
		return
	}
	defer end()

	s.register(bounded, b.Accepts)
	reads := s.apply(bounded, b)
	if len(reads) > 0 {
		// The leases are made: what is left of the time must not cost their payloads.
		ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
		defer cancel()
		s.readPayloads(ctx, reads)
	}
}

// apply runs the scripts of a batch in one pipeline, and returns what is still to be read of its leases.
func (s *Store) apply(ctx context.Context, b *relay.Batch) (reads []*read) {
	packed, rest := packedSettles(b.Settles)
	settles, accepts := settleGroups(rest), acceptGroups(b.Accepts)
	calls := make([]*call, 0, len(packed)+len(settles)+len(accepts)+len(b.Leases))
	for _, g := range packed {
		calls = append(calls, s.packedCall(g.ops))
	}
	for _, g := range settles {
		calls = append(calls, s.settleCall(g.ops))
	}
	for _, g := range accepts {
		calls = append(calls, s.acceptCall(g.ops, false))
	}
	for _, op := range b.Leases {
		calls = append(calls, s.leaseCall(op))
	}
	s.run(ctx, calls...)

	var left []*relay.Settle
	var single relay.Batch
	for _, g := range packed {
		left = append(left, s.packedSettled(g.ops, calls[0])...)
		calls = calls[1:]
	}
	for _, g := range settles {
		if s.settledAll(g.ops, calls[0]); apart(g.ops, calls[0]) {
			single.Settles = append(single.Settles, g.ops...)
		}
		calls = calls[1:]
	}
	for _, g := range accepts {
		if s.acceptedAll(g.ops, calls[0]); apart(g.ops, calls[0]) {
			single.Accepts = append(single.Accepts, g.ops...)
		}
		calls = calls[1:]
	}
	for _, op := range b.Leases {
		reads = append(reads, s.leased(op, calls[0])...)
		calls = calls[1:]
	}
	s.applyEach(ctx, &single)
	s.settleUnpacked(ctx, left)
	return reads
}

// settleUnpacked does settles of deliveries that have left their events' records.
func (s *Store) settleUnpacked(ctx context.Context, settles []*relay.Settle) {
	if len(settles) == 0 {
		return
	}
	groups := settleGroups(settles)
	calls := make([]*call, len(groups))
	for i, g := range groups {
		calls[i] = s.settleCall(g.ops)
	}
	s.run(ctx, calls...)
	var single relay.Batch
	for i, g := range groups {
		if s.settledAll(g.ops, calls[i]); apart(g.ops, calls[i]) {
			single.Settles = append(single.Settles, g.ops...)
		}
	}
	s.applyEach(ctx, &single)
}

// apart reports whether operations are to be done each by itself: Redis has refused them together, which need not be the fault
// of more than one.
func apart[T any](ops []T, c *call) bool { return len(ops) > 1 && errors.Is(c.err, relay.ErrRefused) }

// applyEach does each operation in a script of its own. What was done before the script was refused is known by its id or its
// token.
func (s *Store) applyEach(ctx context.Context, b *relay.Batch) {
	var calls []*call
	for i := range b.Settles {
		calls = append(calls, s.settleCall(b.Settles[i:i+1]))
	}
	for i := range b.Accepts {
		calls = append(calls, s.acceptCall(b.Accepts[i:i+1], true))
	}
	if len(calls) == 0 {
		return
	}
	s.run(ctx, calls...)
	for i := range b.Settles {
		s.settledAll(b.Settles[i:i+1], calls[i])
	}
	for i, op := range b.Accepts {
		s.acceptedAll(b.Accepts[i:i+1], calls[len(b.Settles)+i])
		for j := range op.Deliveries { // the leases of the batch were taken before
			s.wake(relay.DestinationName{Source: op.Event.Source, Destination: op.Deliveries[j].Destination})
		}
	}
}

func fail(b *relay.Batch, err error) {
	for _, op := range b.Settles {
		op.Err = err
	}
	for _, op := range b.Accepts {
		op.Err = err
	}
	for _, op := range b.Leases {
		op.Err = err
	}
}

// register adds sources to the registry before their first event, so that none is ever in no list. Where it fails (the
// registry may be on another master than the source) the next look at the registry makes up for it.
func (s *Store) register(ctx context.Context, accepts []*relay.Accept) {
	var unknown []any
	s.mu.Lock()
	for _, a := range accepts {
		s.used[a.Event.Source] = true
		if !s.sources[a.Event.Source] {
			unknown = append(unknown, a.Event.Source)
		}
	}
	s.mu.Unlock()
	if unknown == nil {
		return
	}
	ctx, cancel := s.toRegistry(ctx)
	defer cancel()
	if s.client.SAdd(ctx, s.keys.sources(), unknown...).Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, source := range unknown {
		s.sources[source.(string)] = true
	}
}
