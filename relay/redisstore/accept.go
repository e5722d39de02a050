package redisstore

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func (s *Store) acceptCall(a *relay.Accept) *call {
	e := a.Event
	keys := s.keys.source(e.Source, 1+blockSize*len(a.Deliveries))
	keys = append(keys, s.keys.event(e.Source, e.ID))
	args := make([]any, 0, 10+3*len(a.Deliveries))
	args = append(args, e.ID, e.Key[:], e.Fingerprint[:], a.Window.Microseconds(), e.TaskID, encodeMeta(e), e.Headers.Encode(), e.Body, a.Again, e.Headers[relay.ProofHeader])
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
	r := c.read()
	result, first, seq, age := relay.Result(r.number()), r.text(), r.number(), r.number()
	tokens := r.numbers(r.groups(1))
	if n := len(tokens); result < relay.Accepted || result > acceptedBefore || n != len(a.Deliveries) && (n > 0 || result == relay.Accepted) {
		r.fail()
	}
	if a.Err = r.done(); a.Err != nil {
		return
	}
	a.FirstID, a.Result = first, result
	if result != relay.Accepted && result != acceptedBefore {
		return
	}
	a.Result, a.Event.Seq = relay.Accepted, seq
	for i, token := range tokens {
		name := relay.DestinationName{Source: a.Event.Source, Destination: a.Deliveries[i].Destination}
		switch {
		case token < 0:
			continue
		case token == 0:
			s.tally.add(name, func(c *relay.Count) {
				c.Pending++
				if result == acceptedBefore {
					c.InFlight--
				}
			})
			s.tell(name)
			continue
		case result == relay.Accepted:
			s.tally.add(name, func(c *relay.Count) { c.InFlight++ })
		}
		a.Leased = append(a.Leased, &relay.Leased{
			Event: a.Event, Destination: name.Destination, Token: uint64(token), Age: time.Duration(age) * time.Microsecond,
		})
	}
}
