package redisstore

import (
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
	ctx, end, err := s.begin(ctx)
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
	if err := s.readRegistry(ctx); err != nil {
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
	pipe := s.client.Pipeline()
	notes := make([]*redis.SliceCmd, len(rows))
	for i, r := range rows {
		notes[i] = pipe.HMGet(ctx, r.notes(), r.id+":u", r.id+":c")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, explain(err)
	}
	records := make([]*relay.EventRecord, len(rows))
	for i, h := range headers {
		noted, err := fields(notes[i], 2)
		if err != nil {
			return nil, err
		}
		if h != nil {
			records[i] = &relay.EventRecord{Event: *h.event, Duplicates: number(noted[0]), Conflicts: number(noted[1]), Deliveries: h.deliveries}
		}
	}
	return records, s.readDeliveries(ctx, rows, records)
}

func number(v any) int {
	text, _ := v.(string)
	n, _ := strconv.Atoi(text) // absent: zero
	return n
}

// readDeliveries completes the deliveries of records that have no state yet, and leaves out those that were discarded.
func (s *Store) readDeliveries(ctx context.Context, rows []row, records []*relay.EventRecord) error {
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
			if !slices.Contains(shards, rows[i].shard) {
				shards = append(shards, rows[i].shard)
			}
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
			if isNil(err) {
				continue
			}
			if err != nil {
				return explain(err)
			}
			r, err := decodeRecord(text)
			if err != nil {
				return fmt.Errorf("event %s: %w", rec.ID, err)
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

// Event implements relay.Store.
func (s *Store) Event(ctx context.Context, id string) (*relay.EventRecord, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	h, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	pipe := s.client.Pipeline()
	hash, payload := pipe.HGetAll(ctx, h.event(id)), pipe.Get(ctx, h.payload(id))
	record := pipe.HGet(ctx, h.packs(), id)
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, explain(err)
	}
	records, err := s.records(ctx, []row{{shard: h, id: id}})
	if err != nil {
		return nil, err
	}
	rec, all := records[0], hash.Val()
	if rec == nil || payload.Val() == "" && all["m"] == "" {
		return nil, relay.ErrNotFound
	}
	var p *pack
	if payload.Val() != "" {
		e, _, err := decodePayload(h.source, id, payload.Val())
		if err != nil {
			return nil, err
		}
		rec.Headers, rec.Body = e.Headers, e.Body
		if p, err = decodePack(record.Val()); err != nil {
			return nil, err
		}
	} else {
		rec.Body = []byte(all["b"])
		if rec.Headers, err = relay.DecodeHeaders([]byte(all["h"])); err != nil {
			return nil, fmt.Errorf("event %s: %w", id, err)
		}
	}
	if rec.Files, err = decodeFiles(all["f"]); err != nil {
		return nil, fmt.Errorf("event %s: %w", id, err)
	}
	for i := range rec.Deliveries {
		d := &rec.Deliveries[i]
		for n := range d.Tries {
			text, ok := all["a:"+d.Destination+":"+strconv.Itoa(n)]
			if n == 0 && !ok {
				text = p.attempt(d.Destination)
			}
			if text == "" {
				continue
			}
			a, err := decodeAttempt(text)
			if err != nil {
				return nil, fmt.Errorf("event %s: %w", id, err)
			}
			d.Attempts = append(d.Attempts, a)
		}
	}
	return rec, s.readVariants(ctx, h, rec)
}

func (s *Store) readVariants(ctx context.Context, h *shard, rec *relay.EventRecord) error {
	for n := 1; n <= min(rec.Conflicts, relay.MaxVariants); n++ { // no more than conflicts, and perhaps fewer
		v := rec.ID + ":" + strconv.Itoa(n)
		f, err := fields(s.client.HMGet(ctx, h.notes(), v+":m", v+":h", v+":b"), 3)
		if err != nil {
			return err
		}
		text := func(i int) string { t, _ := f[i].(string); return t }
		if text(0) == "" {
			continue
		}
		e := relay.Event{ID: rec.ID}
		if _, err := decodeMeta(text(0), &e); err != nil {
			return err
		}
		headers, err := relay.DecodeHeaders([]byte(text(1)))
		if err != nil {
			return fmt.Errorf("event %s, variant %d: %w", rec.ID, n, err)
		}
		rec.Variants = append(rec.Variants, relay.Variant{N: n, ReceivedAt: e.ReceivedAt, Headers: headers, Body: []byte(text(2))})
	}
	return nil
}

// DeadLetters implements relay.Store.
func (s *Store) DeadLetters(ctx context.Context, sel relay.Selection, limit int, cursor string) ([]relay.DeadLetter, string, error) {
	from, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, "", err
	}
	defer end()
	shelves, err := s.deadShelves(ctx, sel)
	if err != nil {
		return nil, "", err
	}
	if limit <= 0 {
		limit = defaultLimit
	}
	n := min(limit, pageRows)
	var found []letter
	next := ""
	begun := time.Now()
scan:
	for seen := 0; seen < scanRows && (len(found) == seen || time.Since(begun) < scanTime); {
		letters, rows, err := s.letters(ctx, shelves, sel, from, true, n)
		if err != nil {
			return nil, "", err
		}
		seen += len(rows)
		for i, l := range letters {
			if found = append(found, l); len(found) == limit && (i+1 < len(letters) || len(rows) == n) {
				next = l.cursor()
				break scan
			}
		}
		if len(rows) < n {
			next = ""
			break
		}
		from = &rows[len(rows)-1]
		next = from.cursor()
	}
	dead, err := s.describe(ctx, found)
	return dead, next, err
}

// letter is a dead letter's row with its record.
type letter struct {
	row
	record
	place int // in one bulk call
}

// deadShelves are the dead letters of the destinations of a selection.
func (s *Store) deadShelves(ctx context.Context, sel relay.Selection) ([]shelf, error) {
	sources, err := s.selected(ctx, sel.Source)
	if err != nil {
		return nil, err
	}
	shards := s.allShards(sources)
	if err := s.look(ctx, shards...); err != nil { // another gateway may have a destination that is new here
		return nil, err
	}
	var shelves []shelf
	for _, source := range sources {
		for _, d := range s.tally.destinations(source) {
			if sel.Destination != "" && sel.Destination != d {
				continue
			}
			for _, h := range s.shards(source) {
				shelves = append(shelves, shelf{shard: h, key: h.dead(d), destination: d})
			}
		}
	}
	return shelves, nil
}

// letters returns those of the next n rows that the selection has. Fewer than n rows are the last.
func (s *Store) letters(ctx context.Context, shelves []shelf, sel relay.Selection, from *row, newest bool, n int) ([]letter, []row, error) {
	rows, err := s.page(ctx, shelves, from, newest, n)
	if err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	states, err := s.states(ctx, rows)
	if err != nil {
		return nil, nil, err
	}
	var letters []letter
	for i, r := range rows {
		rec := states[i]
		if rec.state == relay.StateDead &&
			(sel.Since.IsZero() || !rec.dead.Before(sel.Since)) && (sel.Until.IsZero() || rec.dead.Before(sel.Until)) {
			letters = append(letters, letter{row: r, record: rec})
		}
	}
	return letters, rows, nil
}

// states reads the records of deliveries; a zero record where one is gone.
func (s *Store) states(ctx context.Context, rows []row) ([]record, error) {
	pipe := s.client.Pipeline()
	texts := make([]*redis.StringCmd, len(rows))
	for i, r := range rows {
		texts[i] = pipe.HGet(ctx, r.delivery(r.destination), r.id)
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, explain(err)
	}
	records := make([]record, len(rows))
	for i, t := range texts {
		text, err := t.Result()
		if isNil(err) {
			continue
		}
		if err != nil {
			return nil, explain(err)
		}
		if records[i], err = decodeRecord(text); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// describe reads what a list of dead letters shows beside their records.
func (s *Store) describe(ctx context.Context, letters []letter) ([]relay.DeadLetter, error) {
	if len(letters) == 0 {
		return nil, nil
	}
	rows := make([]row, len(letters))
	pipe := s.client.Pipeline()
	last := make([]*redis.StringCmd, len(letters))
	for i, l := range letters {
		rows[i] = l.row
		last[i] = pipe.HGet(ctx, l.event(l.id), "a:"+l.destination+":"+strconv.Itoa(l.tries-1))
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, explain(err)
	}
	headers, err := s.headers(ctx, rows)
	if err != nil {
		return nil, err
	}
	dead := make([]relay.DeadLetter, len(letters))
	for i, l := range letters {
		d := relay.DeadLetter{
			EventID: l.id, Source: l.source, Destination: l.destination,
			Attempts: l.tries, LastError: l.reason, DeadAt: l.dead,
		}
		text, err := last[i].Result()
		if err != nil && !isNil(err) {
			return nil, explain(err)
		}
		if h := headers[i]; h != nil {
			d.TaskID = h.event.TaskID
			if text == "" && l.tries == 1 {
				text = h.pack.attempt(l.destination)
			}
		}
		if text != "" {
			a, err := decodeAttempt(text)
			if err != nil {
				return nil, fmt.Errorf("event %s: %w", l.id, err)
			}
			d.LastStatus = a.Status
			if d.LastError == "" {
				d.LastError = a.Error
			}
		}
		dead[i] = d
	}
	return dead, nil
}

func isNil(err error) bool { return errors.Is(err, redis.Nil) }
