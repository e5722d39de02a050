package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

const defaultLimit = 50

// Events implements relay.Store.
func (s *Store) Events(ctx context.Context, f relay.EventFilter) ([]relay.EventRecord, string, error) {
	from, err := parseCursor(f.Cursor)
	if err != nil {
		return nil, "", err
	}
	if from == nil && f.Oldest {
		from = behind(f.After)
	}
	ctx, end, err := s.beginForOperator(ctx)
	if err != nil {
		return nil, "", err
	}
	defer end()
	sources, err := s.selected(ctx, f.Source)
	if err != nil {
		return nil, "", err
	}
	var shelves []shelf
	for _, h := range s.allShards(sources) {
		if f.TaskID != "" { // in any partition, where the source goes, or went, by another key
			shelves = append(shelves, shelf{shard: h, key: h.tasks(), task: f.TaskID, byTask: true})
		} else {
			shelves = append(shelves, shelf{shard: h, key: h.events()})
		}
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	n := min(limit, pageRows)
	var events []relay.EventRecord
	begun := time.Now()
	for seen := 0; seen < scanRows && (len(events) == seen || time.Since(begun) < scanTime); {
		rows, err := s.page(ctx, shelves, from, !f.Oldest, n)
		if err != nil {
			return nil, "", err
		}
		records, err := s.records(ctx, rows)
		if err != nil {
			return nil, "", err
		}
		for i, rec := range records {
			seen++
			from = &rows[i]
			if rec != nil && matches(rec, f) {
				events = append(events, *rec)
			}
			if len(events) == limit && (i+1 < len(rows) || len(rows) == n) {
				return events, from.cursor(), nil
			}
		}
		if len(rows) < n {
			return events, "", nil
		}
	}
	return events, from.cursor(), nil
}

// selected are the sources of a selection: the one that is named, or all.
func (s *Store) selected(ctx context.Context, source string) ([]string, error) {
	if source != "" {
		return []string{source}, nil
	}
	if _, err := s.readRegistry(ctx); err != nil {
		return nil, err
	}
	return s.known(), nil
}

func matches(r *relay.EventRecord, f relay.EventFilter) bool {
	switch {
	case f.State != "" && r.State() != f.State,
		!f.Since.IsZero() && r.ReceivedAt.Before(f.Since),
		!f.Until.IsZero() && !r.ReceivedAt.Before(f.Until):
		return false
	}
	return f.Destination == "" || slices.ContainsFunc(r.Deliveries, func(d relay.DeliveryRecord) bool {
		return d.Destination == f.Destination
	})
}

// records reads events as lists show them; nil where an event has gone meanwhile.
func (s *Store) records(ctx context.Context, rows []row) ([]*relay.EventRecord, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	headers, err := s.headers(ctx, rows)
	if err != nil {
		return nil, err
	}
	return s.completed(ctx, rows, headers)
}

// completed adds to events what is known of them elsewhere.
func (s *Store) completed(ctx context.Context, rows []row, headers []*header) ([]*relay.EventRecord, error) {
	pipe := s.client.Pipeline()
	notes := make([]*redis.SliceCmd, len(rows))
	for i, r := range rows {
		notes[i] = pipe.HMGet(ctx, r.notes(), r.id+":u", r.id+":c")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, explain(err)
	}
	records := make([]*relay.EventRecord, len(rows))
	for i, r := range rows {
		noted, err := fields(notes[i], 2)
		if err != nil {
			return nil, err
		}
		if h := headers[i]; h != nil {
			slices.SortFunc(h.deliveries, func(a, b relay.DeliveryRecord) int { return cmp.Compare(a.Destination, b.Destination) })
			records[i] = &relay.EventRecord{
				Event: *h.event, Sequence: r.name, Duplicates: number(noted[0]), Conflicts: number(noted[1]), Deliveries: h.deliveries,
			}
		}
	}
	return records, s.readDeliveries(ctx, rows, headers, records)
}

func number(v any) int {
	text, _ := v.(string)
	n, _ := strconv.Atoi(text) // absent: zero
	return n
}

// readDeliveries completes the deliveries of records that have no state yet, and leaves out those that were discarded.
func (s *Store) readDeliveries(ctx context.Context, rows []row, headers []*header, records []*relay.EventRecord) error {
	type pair struct {
		state *redis.StringCmd
		due   *redis.FloatCmd
	}
	pipe := s.client.Pipeline()
	pairs := map[*relay.DeliveryRecord]pair{}
	var shards []*shard // the masters of a Cluster have a clock each
	for i, rec := range records {
		if rec == nil {
			continue
		}
		for j := range rec.Deliveries {
			d := &rec.Deliveries[j]
			if d.State != "" {
				continue
			}
			shards = with(shards, rows[i].shard)
			block := rows[i].queue(nil, d.Destination)
			pairs[d] = pair{pipe.HGet(ctx, block[3], rec.ID), pipe.ZScore(ctx, block[0], rec.ID)}
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	clocks, err := s.clocks(ctx, shards)
	if err != nil {
		return err
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return explain(err)
	}
	for i, rec := range records {
		if rec == nil {
			continue
		}
		var kept []relay.DeliveryRecord
		for j := range rec.Deliveries {
			d := &rec.Deliveries[j]
			p, asked := pairs[d]
			if !asked {
				kept = append(kept, *d)
				continue
			}
			text, err := p.state.Result()
			var r record
			switch waiting := headers[i].pack.waiting(d.Destination); {
			case isNil(err) && waiting && p.due.Val() > 0:
				r.state = relay.StatePending
			case isNil(err) && waiting:
				r.state = relay.StateInFlight
			case isNil(err):
				continue
			case err != nil:
				return explain(err)
			default:
				if r, err = decodeRecord(text); err != nil {
					return fmt.Errorf("event %s: %w", rec.ID, err)
				}
			}
			d.State, d.Tries, d.Replay, d.Variant, d.Reason, d.DeadAt = r.state, r.tries, r.replay, r.variant, r.reason, r.dead
			if due := p.due.Val(); d.State == relay.StatePending && due > 0 && due < held {
				d.NextAttempt = max(0, time.Duration(int64(due)-clocks[rows[i].shard].now)*time.Microsecond)
			}
			kept = append(kept, *d)
		}
		rec.Deliveries = kept
	}
	return nil
}

func isNil(err error) bool { return errors.Is(err, redis.Nil) }
