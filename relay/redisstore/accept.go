package redisstore

import (
	"fmt"

	"github.com/callbackrelay/caddy-relay/relay"
)

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
