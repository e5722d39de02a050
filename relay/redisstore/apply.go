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
	settles, accepts := s.settleGroups(b.Settles), s.acceptGroups(b.Accepts)
	leases := make([]*leasing, len(b.Leases))
	for i, op := range b.Leases {
		leases[i] = s.newLeasing(op)
	}
	calls := make([]*call, 0, len(settles)+len(accepts)+len(b.Leases))
	for _, g := range settles {
		calls = append(calls, settleCall(g.shard, g.ops))
	}
	for _, g := range accepts {
		calls = append(calls, s.acceptCall(g.shard, g.ops, false))
	}
	round := s.nextRound(ctx, leases, 0)
	s.run(ctx, append(calls, round.calls...)...)

	var single relay.Batch
	for _, g := range settles {
		s.settledAll(g.shard, g.ops, calls[0])
		if (len(g.ops) > 1 || len(g.ops[0].ops) > 1) && refused(calls[0]) {
			for _, e := range g.ops {
				single.Settles = append(single.Settles, e.ops...)
			}
		}
		calls = calls[1:]
	}
	for _, g := range accepts {
		s.acceptedAll(g.shard, g.ops, calls[0])
		if len(g.ops) > 1 && refused(calls[0]) {
			single.Accepts = append(single.Accepts, g.ops...)
		}
		calls = calls[1:]
	}
	reads := s.lease(ctx, leases, round)
	s.applyEach(ctx, &single)
	return reads
}

// refused reports whether Redis has refused the operations of a call. They are done each by itself then, if they are more than one:
// it need not be the fault of all.
func refused(c *call) bool { return errors.Is(c.err, relay.ErrRefused) }

// applyEach does each operation in a script of its own. What was done before the script was refused is known by its id or its
// token.
func (s *Store) applyEach(ctx context.Context, b *relay.Batch) {
	if len(b.Settles)+len(b.Accepts) == 0 {
		return
	}
	var calls []*call
	var shards []*shard
	l := s.layout.Load()
	settles := make([][]settling, len(b.Settles))
	for i, op := range b.Settles {
		h := l.ofToken(op.Leased.Event.Source, op.Leased.Token)
		settles[i] = []settling{{ops: []*relay.Settle{op}}}
		calls, shards = append(calls, settleCall(h, settles[i])), append(shards, h)
	}
	for i, op := range b.Accepts {
		h := l.ofAccept(op)
		calls, shards = append(calls, s.acceptCall(h, b.Accepts[i:i+1], true)), append(shards, h)
	}
	s.run(ctx, calls...)
	for i := range b.Settles {
		s.settledAll(shards[i], settles[i], calls[i])
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
