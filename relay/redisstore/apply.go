package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

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
		calls = append(calls, s.acceptCall(op))
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
		s.accepted(op, calls[0])
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

func (s *Store) acceptCall(a *relay.Accept) *call {
	e := a.Event
	keys := s.keys.source(e.Source, 1+blockSize*len(a.Deliveries))
	keys = append(keys, s.keys.event(e.Source, e.ID))
	args := make([]any, 0, 8+3*len(a.Deliveries))
	args = append(args, e.ID, e.Key[:], e.Fingerprint[:], a.Window.Microseconds(), e.TaskID, encodeMeta(e), e.Headers.Encode(), e.Body)
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		keys = s.keys.destination(keys, e.Source, d.Destination)
		args = append(args, d.Destination, d.LeaseFor.Microseconds(), d.Ordered)
	}
	return &call{script: acceptScript, keys: keys, args: args, durable: true}
}

func (s *Store) accepted(a *relay.Accept, c *call) {
	a.Err, a.Leased = c.err, nil
	if a.Err != nil {
		return
	}
	reply, ok := c.reply.([]any)
	if !ok || len(reply) < 3 {
		a.Err = fmt.Errorf("redis: accept gave %v", c.reply)
		return
	}
	n := numbers(reply, 0)
	a.FirstID, _ = reply[1].(string)
	switch n[0] {
	case 2:
		a.Result = relay.Duplicate
		return
	case 3:
		a.Result = relay.Conflict
		return
	}
	a.Result = relay.Accepted
	a.Event.Seq = n[2]
	if n[0] != 1 {
		return // by an earlier try, which had the leases
	}
	for i, token := range n[3:] {
		name := relay.DestinationName{Source: a.Event.Source, Destination: a.Deliveries[i].Destination}
		if token == 0 {
			s.tally.add(name, func(c *relay.Count) { c.Pending++ })
			s.tell(name)
			continue
		}
		s.tally.add(name, func(c *relay.Count) { c.InFlight++ })
		a.Leased = append(a.Leased, &relay.Leased{Event: a.Event, Destination: name.Destination, Token: uint64(token)})
	}
}

func (s *Store) settleCall(op *relay.Settle) *call {
	e, d := op.Leased.Event, op.Leased.Destination
	keys := append(s.keys.source(e.Source, 1+blockSize), s.keys.event(e.Source, e.ID))
	return &call{
		script: settleScript, keys: s.keys.destination(keys, e.Source, d), durable: true,
		args: []any{
			e.ID, d, strconv.FormatUint(op.Leased.Token, 10), int(op.Outcome), op.Delay.Microseconds(), op.Used,
			encodeAttempt(op.Attempt), op.Reason,
		},
	}
}

func (s *Store) settled(op *relay.Settle, c *call) {
	op.Err, op.Unblocked = c.err, false
	if op.Err != nil {
		return
	}
	n := numbers(c.reply, 0)
	if len(n) == 0 || n[0] == 0 {
		op.Err = relay.ErrLeaseLost
		return
	}
	name := relay.DestinationName{Source: op.Leased.Event.Source, Destination: op.Leased.Destination}
	s.tally.add(name, func(c *relay.Count) {
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
	op.Unblocked = n[1] == 1
	if op.Unblocked || op.Outcome == relay.OutcomeRelease {
		s.tell(name)
	}
}

func (s *Store) leaseCall(l *relay.Lease) *call {
	keys := s.keys.destination(s.keys.source(l.Source, blockSize), l.Source, l.Destination)
	return &call{script: leaseScript, keys: keys, args: []any{
		l.Destination, min(l.Max, relay.MaxTouched/2), l.For.Microseconds(), l.Probe,
	}}
}

// leaseWidth is how many values lease.lua gives of a delivery.
const leaseWidth = 8

// leased reads what a lease gave. The payloads are still to be read.
func (s *Store) leased(l *relay.Lease, c *call) []*read {
	l.Err, l.Leased, l.Paused, l.Dead = c.err, nil, false, nil
	if l.Err != nil {
		return nil
	}
	reply, _ := c.reply.([]any)
	if len(reply) < 3 || (len(reply)-3)%leaseWidth != 0 {
		l.Err = fmt.Errorf("redis: lease gave %v", c.reply)
		return nil
	}
	n := numbers(reply, 0)
	l.Paused = n[0] == 1
	l.Next = time.Duration(n[2]) * time.Microsecond
	if n[2] < 0 {
		l.Next = -1
	}
	count := len(reply) / leaseWidth
	s.tally.add(relay.DestinationName{Source: l.Source, Destination: l.Destination}, func(c *relay.Count) {
		c.LeaseExpired += n[1]
		c.InFlight += int64(count) - n[1]
		c.Pending -= int64(count) - n[1]
		c.Paused = l.Paused
	})
	reads := make([]*read, 0, count)
	for i := 3; i < len(reply); i += leaseWidth {
		id, _ := reply[i].(string)
		reads = append(reads, &read{
			lease: l, variant: int(n[i+5]),
			leased: &relay.Leased{
				Event:       &relay.Event{ID: id, Source: l.Source, Seq: n[i+7]},
				Destination: l.Destination, Token: uint64(n[i+1]),
				Tries: int(n[i+2]), Used: int(n[i+3]), Replay: int(n[i+4]),
				Age: time.Duration(n[i+6]) * time.Microsecond,
			},
		})
	}
	return reads
}

// read is the payload of a leased delivery that is still to be read.
type read struct {
	lease   *relay.Lease
	leased  *relay.Leased
	variant int
	fields  *redis.SliceCmd
	body    *redis.SliceCmd // headers and body
}

// readPayloads completes leases, in one pipeline. A delivery whose event is gone becomes a dead letter.
func (s *Store) readPayloads(ctx context.Context, reads []*read) {
	pipe := s.client.Pipeline()
	for _, r := range reads {
		e := r.leased.Event
		key := s.keys.event(e.Source, e.ID)
		r.fields = pipe.HMGet(ctx, key, eventFields...)
		if r.variant == 0 {
			r.body = pipe.HMGet(ctx, key, "h", "b")
		} else {
			v := e.ID + ":" + strconv.Itoa(r.variant)
			r.body = pipe.HMGet(ctx, s.keys.notes(e.Source), v+":h", v+":b")
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	var missing []*read
	for _, r := range reads {
		there, err := r.complete()
		switch {
		case err != nil:
			r.lease.Err = explain(err)
		case !there:
			missing = append(missing, r)
		default:
			r.lease.Leased = append(r.lease.Leased, r.leased)
		}
	}
	s.giveBack(slices.DeleteFunc(reads, func(r *read) bool { return r.lease.Err == nil }))
	s.bury(slices.DeleteFunc(missing, func(r *read) bool { return r.lease.Err != nil }))
}

func (r *read) complete() (there bool, err error) {
	if err := r.fields.Err(); err != nil {
		return false, err
	}
	if err := r.body.Err(); err != nil {
		return false, err
	}
	e, err := decodeEvent(r.leased.Event.Source, r.leased.Event.ID, r.fields.Val())
	if err != nil || e == nil {
		return false, err
	}
	headers, _ := r.body.Val()[0].(string)
	body, ok := r.body.Val()[1].(string)
	if !ok {
		return false, nil
	}
	e.Body = []byte(body)
	e.Headers, err = relay.DecodeHeaders([]byte(headers))
	r.leased.Event = e
	return true, err
}

// giveBack releases what leases hold of which not everything could be read.
func (s *Store) giveBack(reads []*read) {
	for _, r := range reads {
		r.lease.Leased = nil
	}
	s.settleAll(reads, relay.OutcomeRelease, "") // what fails here ends with its time
}

// bury makes dead letters of deliveries whose payload is gone.
func (s *Store) bury(reads []*read) {
	const reason = "payload_missing"
	for i, op := range s.settleAll(reads, relay.OutcomeDead, reason) {
		if op.Err != nil {
			continue // it is found again when its lease has ended
		}
		l := reads[i].leased
		reads[i].lease.Dead = append(reads[i].lease.Dead, relay.DeadLetter{
			EventID: l.Event.ID, Source: l.Event.Source, TaskID: l.Event.TaskID, Destination: l.Destination,
			Attempts: l.Tries, LastError: reason, DeadAt: time.Now(),
		})
	}
}

// settleAll settles deliveries that have just been leased, in one pipeline with a timeout of its own.
func (s *Store) settleAll(reads []*read, outcome relay.Outcome, reason string) []*relay.Settle {
	if len(reads) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Timeout)
	defer cancel()
	ops, calls := make([]*relay.Settle, len(reads)), make([]*call, len(reads))
	for i, r := range reads {
		ops[i] = &relay.Settle{Leased: r.leased, Outcome: outcome, Reason: reason}
		calls[i] = s.settleCall(ops[i])
	}
	s.run(ctx, calls...)
	for i, op := range ops {
		s.settled(op, calls[i])
	}
	return ops
}
