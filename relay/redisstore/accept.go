package redisstore

import (
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

func (s *Store) acceptCall(a *relay.Accept) *call {
	e := a.Event
	keys := s.keys.source(e.Source, 1+blockSize*len(a.Deliveries))
	keys = append(keys, s.keys.event(e.Source, e.ID))
	args := make([]any, 0, 13+4*len(a.Deliveries))
	args = append(args, e.ID, e.Key[:], e.Fingerprint[:], a.Window.Microseconds(), e.TaskID, encodeMeta(e), e.EncodedHeaders(), e.Body, a.Again, e.Headers[relay.ProofHeader])
	args = append(args, separateArgs(a)...)
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		keys = s.keys.destination(keys, e.Source, d.Destination)
		args = append(args, d.Destination, d.LeaseFor.Microseconds(), d.Ordered, a.Awaited(d))
	}
	return &call{script: acceptScript, keys: keys, args: args, durable: true}
}

// separateArgs are those of an accept that may become an event beside the first one of its key.
func separateArgs(a *relay.Accept) []any {
	if !a.Separate {
		return []any{"", "", ""}
	}
	separated := a.Event.Separated("")
	args := []any{separated.Key[:], encodeMeta(separated), ""}
	if key, ok := a.Event.ProofKey(); ok {
		args[2] = key[:]
	}
	return args
}

func (s *Store) accepted(a *relay.Accept, c *call) {
	a.Err, a.Leased, a.ConflictWith = c.err, nil, ""
	if a.Err != nil {
		return
	}
	r := c.read()
	result, first, seq, age, beside := relay.Result(r.number()), r.text(), r.number(), r.number(), r.text()
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
	a.Result, a.ConflictWith, a.Event.Seq = relay.Accepted, beside, seq
	ev := a.Event
	if beside != "" {
		ev = ev.Separated(beside)
	}
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
			Event: ev, Destination: name.Destination, Token: uint64(token), Age: time.Duration(age) * time.Microsecond,
			Awaiting: awaiting(a, name.Destination),
		})
	}
}

// awaiting returns the destinations whose deliveries of an accept wait for one of its deliveries.
func awaiting(a *relay.Accept, destination string) (names []string) {
	for i := range a.Deliveries {
		if d := &a.Deliveries[i]; d.Behind == destination && a.Awaited(d) != "" {
			names = append(names, d.Destination)
		}
	}
	return names
}
