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

// firstLeases replaces the 1 of a paused destination in what the script returns where all leases are of deliveries
// in their events' records.
const firstLeases = 2

// The script returns so many values of a delivery, and of one in its event's record.
const (
	leaseWidth      = 8
	firstLeaseWidth = 3
)

// leased reads what a lease gave in one partition, and how long it is until something is due there. The payloads are still to
// be read, where they are not known.
func (s *Store) leased(h *leasingShard) (reads []*read, next time.Duration, paused bool, err error) {
	if h.err != nil {
		return nil, 0, false, h.err
	}
	l, r := h.op, h.reply
	kind, expired, wait := r.number(), r.number(), r.number()
	if kind == firstLeases {
		run := r.digits()
		for range r.groups(firstLeaseWidth) {
			id, place := r.text(), r.number()
			seq, accepted := r.twoDigits()
			reads = append(reads, &read{lease: l, shard: h.shard, leased: &relay.Leased{
				Event: &relay.Event{ID: id, Source: l.Source, Seq: seq}, Destination: l.Destination,
				Token: h.token(place - seq), Age: time.Duration(max(0, run-accepted)) * time.Microsecond,
			}})
		}
	} else {
		for range r.groups(leaseWidth) {
			id, n := r.text(), r.numbers(leaseWidth-1)
			reads = append(reads, &read{lease: l, shard: h.shard, variant: int(n[4]), leased: &relay.Leased{
				Event: &relay.Event{ID: id, Source: l.Source, Seq: n[6]}, Destination: l.Destination,
				Token: h.token(n[0]), Tries: int(n[1]), Used: int(n[2]), Replay: int(n[3]),
				Age: time.Duration(n[5]) * time.Microsecond,
			}})
		}
	}
	if err := r.done(); err != nil {
		return nil, 0, false, err
	}
	for _, r := range reads {
		r.recall(&s.recent)
	}
	s.tally.add(h.shard, l.Destination, func(c *relay.Count) {
		c.LeaseExpired += expired
		c.InFlight += int64(len(reads)) - expired
		c.Pending -= int64(len(reads)) - expired
		c.Paused = kind == 1
	})
	return reads, max(-1, time.Duration(wait)*time.Microsecond), kind == 1, nil
}

// recall completes a delivery whose event is kept. An archive's is read all the same, for the files.
func (r *read) recall(c *recent) {
	l := r.leased
	if l.Token&packedToken == 0 || l.Destination == relay.ArchiveName {
		return
	}
	if e := c.take(l.Event.ID); e != nil && e.Seq == l.Event.Seq {
		l.Event, r.known = e, true
	}
}

// read is a leased delivery whose payload is still to be read.
type read struct {
	lease   *relay.Lease
	shard   *shard
	leased  *relay.Leased
	variant int
	known   bool // the payload is here already
	content *content
}

// content is an event as some of its deliveries send it, on its way from Redis.
type content struct {
	payload *redis.StringCmd
	former  *redis.SliceCmd // nil where nothing of it is needed
	body    *redis.SliceCmd // headers and body, where they are a variant's

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
		if r.known {
			continue
		}
		e := r.leased.Event
		name := contentName{e.Source, e.ID, r.variant}
		if r.content = asked[name]; r.content != nil {
			continue
		}
		r.content = &content{payload: pipe.Get(ctx, r.shard.payload(e.ID))}
		asked[name] = r.content
		if r.variant == 0 {
			continue
		}
		v := e.ID + ":" + strconv.Itoa(r.variant)
		r.content.body = pipe.HMGet(ctx, r.shard.notes(), v+":h", v+":b")
	}
	if len(asked) > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
		for name, p := range asked {
			p.decode(name)
		}
		s.readFormer(ctx, reads)
		for name, p := range asked {
			p.finish(name)
		}
	}
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

// readFormer reads of events' hashes what payloads do not have: files, where a delivery is to know them, and all of an event of the
// earlier layout.
func (s *Store) readFormer(ctx context.Context, reads []*read) {
	pipe := s.client.Pipeline()
	for _, r := range reads {
		p := r.content
		if p == nil || p.former != nil || p.err != nil {
			continue
		}
		if p.event == nil || p.waiters != "" || r.leased.Destination == relay.ArchiveName {
			p.former = pipe.HMGet(ctx, r.shard.event(r.leased.Event.ID), formerFields...)
		}
	}
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
}

// complete sets what is sent, and reports whether it is there.
func (r *read) complete() (there bool, err error) {
	p := r.content
	if p == nil { // it was known
		return true, nil
	}
	if p.err != nil || p.event == nil {
		return false, p.err
	}
	if err := r.among(p.waiters, p.files); err != nil {
		return false, fmt.Errorf("event %s: %w", p.event.ID, err)
	}
	p.event.Seq = r.leased.Event.Seq // which the lease knows
	r.leased.Event = p.event
	return true, nil
}

// decode sets the event as it was accepted, and leaves it nil if there is no payload.
func (p *content) decode(name contentName) {
	text, err := p.payload.Result()
	switch {
	case err == nil:
		p.event, p.waiters, p.err = decodePayload(name.source, name.id, text)
	case !isNil(err):
		p.err = err
	}
}

// finish adds what is not in the payload.
func (p *content) finish(name contentName) {
	if p.err == nil && p.former != nil {
		p.err = p.addFormer(name)
	}
	if p.err == nil && p.event != nil && p.body != nil {
		var body []any
		if body, p.err = fields(p.body, 2); p.err == nil {
			p.event, p.err = withBody(p.event, body[0], body[1])
		}
	}
}

// addFormer adds what is in the event's hash.
func (p *content) addFormer(name contentName) error {
	former, err := fields(p.former, len(formerFields))
	if err != nil {
		return err
	}
	p.files, _ = former[0].(string)
	if p.event != nil {
		return nil
	}
	e, err := decodeEvent(name.source, name.id, former[1:4])
	if err != nil || e == nil {
		return err
	}
	p.waiters, _ = former[4].(string)
	p.event, err = withBody(e, former[5], former[6])
	return err
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
