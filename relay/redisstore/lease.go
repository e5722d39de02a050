package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

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
	r := c.read()
	paused, expired, next := r.number() == 1, r.number(), r.number()
	count := r.groups(leaseWidth)
	reads := make([]*read, count)
	for i := range reads {
		id, n := r.text(), r.numbers(leaseWidth-1)
		reads[i] = &read{
			lease: l, variant: int(n[4]),
			leased: &relay.Leased{
				Event:       &relay.Event{ID: id, Source: l.Source, Seq: n[6]},
				Destination: l.Destination, Token: uint64(n[0]),
				Tries: int(n[1]), Used: int(n[2]), Replay: int(n[3]),
				Age: time.Duration(n[5]) * time.Microsecond,
			},
		}
	}
	if l.Err = r.done(); l.Err != nil {
		return nil
	}
	l.Paused = paused
	l.Next = max(-1, time.Duration(next)*time.Microsecond)
	s.tally.add(relay.DestinationName{Source: l.Source, Destination: l.Destination}, func(c *relay.Count) {
		c.LeaseExpired += expired
		c.InFlight += int64(count) - expired
		c.Pending -= int64(count) - expired
		c.Paused = paused
	})
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
		r.fields = pipe.HMGet(ctx, key, leaseFields...)
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
	known, err := fields(r.fields, len(leaseFields))
	if err != nil {
		return false, err
	}
	payload, err := fields(r.body, 2)
	if err != nil {
		return false, err
	}
	e, err := decodeEvent(r.leased.Event.Source, r.leased.Event.ID, known)
	if err != nil || e == nil {
		return false, err
	}
	waiters, _ := known[len(eventFields)].(string)
	files, _ := known[len(eventFields)+1].(string)
	if err := r.among(waiters, files); err != nil {
		return false, fmt.Errorf("event %s: %w", e.ID, err)
	}
	headers, _ := payload[0].(string)
	body, ok := payload[1].(string)
	if !ok {
		return false, nil
	}
	e.Body = []byte(body)
	e.Headers, err = relay.DecodeHeaders([]byte(headers))
	r.leased.Event = e
	return true, err
}

// leaseFields are eventFields, with who waits for whom among the event's deliveries, and its files.
var leaseFields = append(slices.Clone(eventFields), "w", "f")

// among sets what a delivery has to do with others of its event: waiters are pairs of destinations, of which the first waits
// for the second.
func (r *read) among(waiters, files string) (err error) {
	wanted := r.leased.Destination == relay.ArchiveName
	for pair := range slices.Chunk(strings.Fields(waiters), 2) {
		if len(pair) < 2 {
			break
		}
		wanted = wanted || pair[0] == r.leased.Destination
		if pair[1] == r.leased.Destination {
			r.leased.Awaiting = append(r.leased.Awaiting, pair[0])
		}
	}
	if wanted {
		r.leased.Files, err = decodeFiles(files)
	}
	return err
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
