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
	ctx, end, err := s.beginForOperator(ctx)
	if err != nil {
		return r, "", err
	}
	defer end()
	all := s.shards(source)
	if _, err := s.clocks(ctx, all, from); err != nil { // what has expired there is leased no more
		return r, "", err
	}
	var shelves []shelf
	for _, h := range all { // both sets name an event that has a dead letter, at the same place
		shelves = append(shelves, shelf{shard: h, key: h.events()}, shelf{shard: h, key: h.dead(from)})
	}
	rows, err := s.page(ctx, shelves, after, false, relay.MaxTouched)
	if err != nil || len(rows) == 0 {
		return r, "", err
	}
	calls := reassignCalls(rows, from, to)
	s.run(ctx, calls...)
	for _, c := range calls {
		if c.err != nil {
			err = join(err, c.err)
			continue
		}
		reply := c.read()
		moved, left := reply.number(), reply.number()
		if failed := reply.done(); failed != nil {
			err = join(err, failed)
			continue
		}
		r.Moved, r.Left = r.Moved+int(moved), r.Left+int(left)
	}
	if r.Moved > 0 {
		s.rouse(relay.DestinationName{Source: source, Destination: to})
	}
	if err != nil {
		return r, "", err
	}
	if len(rows) == relay.MaxTouched {
		next = rows[len(rows)-1].cursor()
	}
	return r, next, s.look(ctx, all...)
}

// reassignCalls returns the calls for the events of a page, of which one may stand there twice: one call per partition.
func reassignCalls(rows []row, from, to string) (calls []*call) {
	of := map[*shard]*call{}
	for i, row := range rows {
		if i > 0 && row.id == rows[i-1].id {
			continue
		}
		c := of[row.shard]
		if c == nil {
			c = &call{
				script: reassignScript, durable: true,
				keys: row.queue(row.queue(row.block(2*blockSize+len(rows)), from), to),
				args: []any{from, to},
			}
			of[row.shard], calls = c, append(calls, c)
		}
		c.keys = append(c.keys, row.event(row.id))
		c.args = append(c.args, row.id)
	}
	return calls
}
