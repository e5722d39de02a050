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

// leaseWidth is how many values lease.lua gives of a delivery.
const leaseWidth = 8

// leased reads what a lease gave in one partition, and how long it is until something is due there. The payloads are still to
// be read.
func (s *Store) leased(h *leasingShard, l *relay.Lease) (reads []*read, next time.Duration, paused bool, err error) {
	if h.err != nil {
		return nil, 0, false, h.err
	}
	r := h.reply
	held, expired, wait := r.number() == 1, r.number(), r.number()
	count := r.groups(leaseWidth)
	reads = make([]*read, count)
	for i := range reads {
		id, n := r.text(), r.numbers(leaseWidth-1)
		reads[i] = &read{
			lease: l, shard: h.shard, variant: int(n[4]),
			leased: &relay.Leased{
				Event:       &relay.Event{ID: id, Source: l.Source, Seq: n[6]},
				Destination: l.Destination, Token: h.token(n[0]),
				Tries: int(n[1]), Used: int(n[2]), Replay: int(n[3]),
				Age: time.Duration(n[5]) * time.Microsecond,
			},
		}
	}
	if err := r.done(); err != nil {
		return nil, 0, false, err
	}
	s.tally.add(h.shard, l.Destination, func(c *relay.Count) {
		c.LeaseExpired += expired
		c.InFlight += int64(count) - expired
		c.Pending -= int64(count) - expired
		c.Paused = held
	})
	return reads, max(-1, time.Duration(wait)*time.Microsecond), held, nil
}

// read is a leased delivery whose payload is still to be read.
type read struct {
	lease   *relay.Lease
	shard   *shard
	leased  *relay.Leased
	variant int
	content *content
}

// content is an event as some of its deliveries send it, on its way from Redis.
type content struct {
	payload *redis.StringCmd
	former  *redis.SliceCmd
	body    *redis.SliceCmd // headers and body, where they are a variant's

	decoded        bool
	event          *relay.Event // nil if it is gone
	waiters, files string
	err            error
}

// contentName names what a delivery sends.
type contentName struct {
	source, id string
	variant    int
}

// readPayloads completes leases, in one pipeline: deliveries that send the same share one payload. A delivery whose event is
// gone becomes a dead letter.
func (s *Store) readPayloads(ctx context.Context, reads []*read) {
	pipe := s.client.Pipeline()
	asked := make(map[contentName]*content, len(reads))
	for _, r := range reads {
		e := r.leased.Event
		name := contentName{e.Source, e.ID, r.variant}
		if r.content = asked[name]; r.content != nil {
			continue
		}
		r.content = &content{}
		asked[name] = r.content
		r.content.former = pipe.HMGet(ctx, r.shard.event(e.ID), formerFields...)
		r.content.payload = pipe.Get(ctx, r.shard.payload(e.ID))
		if r.variant == 0 {
			continue
		}
		v := e.ID + ":" + strconv.Itoa(r.variant)
		r.content.body = pipe.HMGet(ctx, r.shard.notes(), v+":h", v+":b")
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

// complete sets what is sent, and reports whether it is there.
func (r *read) complete() (there bool, err error) {
	p := r.content
	p.decode(r.leased.Event)
	if p.err != nil || p.event == nil {
		return false, p.err
	}
	if err := r.among(p.waiters, p.files); err != nil {
		return false, fmt.Errorf("event %s: %w", p.event.ID, err)
	}
	r.leased.Event = p.event
	return true, nil
}

// decode makes the event of what was read, once. Its sequence is known of the lease.
func (p *content) decode(leased *relay.Event) {
	if p.decoded {
		return
	}
	p.decoded = true
	e, err := p.read(leased.Source, leased.ID)
	if err == nil && e != nil && p.body != nil {
		var body []any
		if body, err = fields(p.body, 2); err == nil {
			e, err = withBody(e, body[0], body[1])
		}
	}
	if p.err = err; err == nil && e != nil {
		e.Seq = leased.Seq
		p.event = e
	}
}

// read makes the event as it was accepted; nil if it is gone.
func (p *content) read(source, id string) (*relay.Event, error) {
	former, err := fields(p.former, len(formerFields))
	if err != nil {
		return nil, err
	}
	p.files, _ = former[0].(string)
	text, err := p.payload.Result()
	if err == nil {
		e, waiters, err := decodePayload(source, id, text)
		p.waiters = waiters
		return e, err
	}
	if !isNil(err) {
		return nil, err
	}
	e, err := decodeEvent(source, id, former[1:4])
	if err != nil || e == nil {
		return nil, err
	}
	p.waiters, _ = former[4].(string)
	return withBody(e, former[5], former[6])
}

// formerFields are read of an event's hash: its files, and all else where it is of the earlier layout.
var formerFields = []string{"f", "m", "k", "s", "w", "h", "b"}

// withBody sets headers and body as they were read; nil if there is no body.
func withBody(e *relay.Event, headers, body any) (*relay.Event, error) {
	text, ok := body.(string)
	if !ok {
		return nil, nil
	}
	e.Body = []byte(text)
	encoded, _ := headers.(string)
	var err error
	e.Headers, err = relay.DecodeHeaders([]byte(encoded))
	return e, err
}

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
