package redisstore

import (
	"context"

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

	calls := make([]*call, 0, len(b.Settles)+len(b.Accepts)+len(b.Leases))
	for _, op := range b.Settles {
		calls = append(calls, s.settleCall(op))
	}
	for _, op := range b.Accepts {
		if op.Ends == relay.NotEnding {
			calls = append(calls, s.acceptCall(op))
		} else {
			calls = append(calls, s.acceptEndingCall(op))
		}
	}
	for _, op := range b.Leases {
		calls = append(calls, s.leaseCall(op))
	}
	s.register(bounded, b.Accepts)
	s.run(bounded, calls...)

	for _, op := range b.Settles {
		s.settled(op, calls[0])
		calls = calls[1:]
	}
	for _, op := range b.Accepts {
		if op.Ends == relay.NotEnding {
			s.accepted(op, calls[0])
		} else {
			s.acceptedEnding(op, calls[0])
		}
		calls = calls[1:]
	}
	var reads []*read
	for _, op := range b.Leases {
		reads = append(reads, s.leased(op, calls[0])...)
		calls = calls[1:]
	}
	if len(reads) > 0 {
		// The leases are made: what is left of the time must not cost their payloads.
		ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
		defer cancel()
		s.readPayloads(ctx, reads)
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
