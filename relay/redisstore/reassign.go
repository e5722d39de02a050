package redisstore

import (
	"context"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Reassign implements relay.Store. It goes through the events of the source, and through the dead letters of the destination,
// of which some may be of events that are gone.
func (s *Store) Reassign(ctx context.Context, source, from, to, cursor string) (r relay.Reassigned, next string, err error) {
	after, err := parseCursor(cursor)
	if err != nil {
		return r, "", err
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return r, "", err
	}
	defer end()
	if _, _, err := s.clock(ctx, source, from); err != nil { // what has expired there is leased no more
		return r, "", err
	}
	// Both sets name an event that has a dead letter, at the same place.
	shelves := []shelf{{key: s.keys.events(source), source: source}, {key: s.keys.dead(source, from), source: source}}
	rows, err := s.page(ctx, shelves, after, false, relay.MaxTouched)
	if err != nil || len(rows) == 0 {
		return r, "", err
	}
	c := &call{
		script: reassignScript, durable: true,
		keys: s.keys.destination(s.keys.destination(s.keys.source(source, 2*blockSize+len(rows)), source, from), source, to),
		args: []any{from, to},
	}
	for i, row := range rows {
		if i > 0 && row.id == rows[i-1].id {
			continue
		}
		c.keys = append(c.keys, s.keys.event(source, row.id))
		c.args = append(c.args, row.id)
	}
	if s.run(ctx, c); c.err != nil {
		return r, "", c.err
	}
	reply := c.read()
	r.Moved, r.Left = int(reply.number()), int(reply.number())
	if err := reply.done(); err != nil {
		return relay.Reassigned{}, "", err
	}
	if len(rows) == relay.MaxTouched {
		next = rows[len(rows)-1].cursor()
	}
	if r.Moved > 0 {
		name := relay.DestinationName{Source: source, Destination: to}
		s.wake(name)
		s.tell(name)
	}
	return r, next, s.look(ctx, source)
}
