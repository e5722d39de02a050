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

	if err := s.register(bounded, sources(b.Accepts)...); err != nil {
		fail(b, err)
		return
	}
	reads := s.apply(bounded, b)
	if len(reads) > 0 {
		// The leases are made: what is left of the time must not cost their payloads.
		ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
		defer cancel()
		s.readPayloads(ctx, reads)
	}
}

// apply runs the scripts of a batch in one pipeline, and returns what is still to be read of its leases.
func (s *Store) apply(ctx context.Context, b *relay.Batch) []*read {
	packed, settles := s.packedSettles(b)
	reads, left := s.applyTogether(ctx, packed, &relay.Batch{Settles: settles, Accepts: b.Accepts, Leases: b.Leases})
	if len(left) > 0 {
		s.applyTogether(ctx, nil, &relay.Batch{Settles: left})
	}
	return reads
}

// applyTogether does settles of deliveries in their events' records, and a batch. It returns what is still to be read of the
// batch's leases, and those of the settles that are of deliveries that have left the records.
func (s *Store) applyTogether(ctx context.Context, packed []*group[*packedEvent], b *relay.Batch) (reads []*read, left []*relay.Settle) {
	settles, accepts := s.settleGroups(b.Settles), s.acceptGroups(b.Accepts)
	leases := make([]*leasing, len(b.Leases))
	calls := make([]*call, 0, len(packed)+len(settles)+len(accepts)+len(b.Leases))
	for _, g := range packed {
		calls = append(calls, packedCall(g.shard, g.ops))
	}
	for _, g := range settles {
		calls = append(calls, s.settleCall(g.shard, g.ops))
	}
	for _, g := range accepts {
		calls = append(calls, s.acceptCall(g.shard, g.ops, false))
	}
	for i, op := range b.Leases {
		leases[i] = s.newLeasing(op)
		calls = append(calls, leases[i].round(ctx, s, 0)...)
	}
	s.run(ctx, calls...)

	for _, g := range packed {
		left = append(left, s.packedSettled(g.shard, g.ops, calls[0])...)
		calls = calls[1:]
	}
	var single relay.Batch
	for _, g := range settles {
		if s.settledAll(g.shard, g.ops, calls[0]); apart(g.ops, calls[0]) {
			single.Settles = append(single.Settles, g.ops...)
		}
		calls = calls[1:]
	}
	for _, g := range accepts {
		if s.acceptedAll(g.shard, g.ops, calls[0]); apart(g.ops, calls[0]) {
			single.Accepts = append(single.Accepts, g.ops...)
		}
		calls = calls[1:]
	}
	reads = s.lease(ctx, leases)
	s.applyEach(ctx, &single)
	return reads, left
}

// apart reports whether operations are to be done each by itself: Redis has refused them together, which need not be the fault
// of more than one.
func apart[T any](ops []T, c *call) bool { return len(ops) > 1 && errors.Is(c.err, relay.ErrRefused) }

// applyEach does each operation in a script of its own. What was done before the script was refused is known by its id or its
// token.
func (s *Store) applyEach(ctx context.Context, b *relay.Batch) {
	var calls []*call
	var shards []*shard
	l := s.layout.Load()
	for i, op := range b.Settles {
		h := l.ofToken(op.Leased.Event.Source, op.Leased.Token)
		calls, shards = append(calls, s.settleCall(h, b.Settles[i:i+1])), append(shards, h)
	}
	for i, op := range b.Accepts {
		h := l.ofAccept(op)
		calls, shards = append(calls, s.acceptCall(h, b.Accepts[i:i+1], true)), append(shards, h)
	}
	if len(calls) == 0 {
		return
	}
	s.run(ctx, calls...)
	for i := range b.Settles {
		s.settledAll(shards[i], b.Settles[i:i+1], calls[i])
	}
	for i, op := range b.Accepts {
		n := len(b.Settles) + i
		s.acceptedAll(shards[n], b.Accepts[i:i+1], calls[n])
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

// sources returns the sources of accepts, one that follows itself once.
func sources(accepts []*relay.Accept) (names []string) {
	for _, a := range accepts {
		if n := len(names); n == 0 || names[n-1] != a.Event.Source {
			names = append(names, a.Event.Source)
		}
	}
	return names
}

// register makes sure that the number of partitions is stored before a source's first event, and adds sources to the registry,
// so that none is ever in no list. Where that fails (the registry may be on another master than the source) the next look at the
// registry makes up for it.
func (s *Store) register(ctx context.Context, sources ...string) error {
	if len(sources) == 0 {
		return nil
	}
	if err := s.learn(ctx, true); err != nil {
		return err
	}
	var unknown []any
	s.mu.Lock()
	for _, source := range sources {
		s.used[source] = true
		if !s.sources[source] {
			unknown = append(unknown, source)
		}
	}
	s.mu.Unlock()
	if unknown == nil {
		return nil
	}
	ctx, cancel := s.toRegistry(ctx)
	defer cancel()
	if s.client.SAdd(ctx, s.keys.sources(), unknown...).Err() != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, source := range unknown {
		s.sources[source.(string)] = true
	}
	return nil
}
