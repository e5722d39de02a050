package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// DeadLetters implements relay.Store.
func (s *Store) DeadLetters(ctx context.Context, sel relay.Selection, limit int, cursor string) ([]relay.DeadLetter, string, error) {
	from, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	ctx, end, err := s.beginForOperator(ctx)
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

// grouping parts letters into those of one queue, in the order of their first ones.
func grouping(letters []letter) (groups [][]letter) {
	type queue struct {
		*shard
		destination string
	}
	of := map[queue]int{}
	for _, l := range letters {
		q := queue{l.shard, l.destination}
		i, ok := of[q]
		if !ok {
			i = len(groups)
			of[q], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], l)
	}
	return groups
}

// groupCall begins a call on deliveries of one destination in one partition.
func groupCall(script *script, group []letter) *call {
	h, destination := group[0].shard, group[0].destination
	c := &call{script: script, durable: true, keys: h.queue(h.block(blockSize+len(group)), destination)}
	for _, l := range group {
		c.keys = append(c.keys, h.event(l.id))
	}
	return c
}
