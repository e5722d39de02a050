package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

func isNil(err error) bool { return errors.Is(err, redis.Nil) }

// letter is a dead letter's row with its record.
type letter struct {
	row
	record
	place int // in one bulk call
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
scan:
	for seen := 0; seen < scanRows; {
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

// deadShelves are the dead letters of the destinations of a selection.
func (s *Store) deadShelves(ctx context.Context, sel relay.Selection) ([]shelf, error) {
	sources, err := s.selected(ctx, sel.Source)
	if err != nil {
		return nil, err
	}
	if err := s.look(ctx, sources...); err != nil { // another gateway may have a destination that is new here
		return nil, err
	}
	var shelves []shelf
	for _, source := range sources {
		for _, d := range s.tally.destinations(source) {
			if sel.Destination == "" || sel.Destination == d {
				shelves = append(shelves, shelf{key: s.keys.dead(source, d), source: source, destination: d})
			}
		}
	}
	return shelves, nil
}

// letters gives those of the next n rows that the selection has. Fewer than n rows are the last.
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
		texts[i] = pipe.HGet(ctx, s.keys.delivery(r.source, r.destination), r.id)
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
	pipe := s.client.Pipeline()
	fields := make([]*redis.SliceCmd, len(letters))
	for i, l := range letters {
		fields[i] = pipe.HMGet(ctx, s.keys.event(l.source, l.id), "k", "a:"+l.destination+":"+strconv.Itoa(l.tries-1))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, explain(err)
	}
	dead := make([]relay.DeadLetter, len(letters))
	for i, l := range letters {
		d := relay.DeadLetter{
			EventID: l.id, Source: l.source, Destination: l.destination,
			Attempts: l.tries, LastError: l.reason, DeadAt: l.dead,
		}
		d.TaskID, _ = fields[i].Val()[0].(string)
		if text, ok := fields[i].Val()[1].(string); ok {
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

// Redrive implements relay.Store.
func (s *Store) Redrive(ctx context.Context, sel relay.Selection, after, every time.Duration, cursor string) (n int, next string, err error) {
	from, err := parseCursor(cursor)
	if err != nil {
		return 0, "", err
	}
	return s.bulk(ctx, sel, from, func(group []letter) *call {
		c := s.groupCall(redriveScript, group)
		for _, l := range group {
			c.args = append(c.args, l.id, (after + time.Duration(l.place)*every).Microseconds())
		}
		return c
	})
}

// Discard implements relay.Store.
func (s *Store) Discard(ctx context.Context, sel relay.Selection) (int, error) {
	discard := func(group []letter) *call {
		c := s.groupCall(discardScript, group)
		c.args = append(c.args, sel.Orphaned)
		for _, l := range group {
			c.args = append(c.args, l.id)
		}
		return c
	}
	n, _, err := s.bulk(ctx, sel, nil, discard)
	if err != nil || !sel.Orphaned || n == relay.MaxTouched {
		return n, err
	}
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return n, err
	}
	defer end()
	if _, _, err := s.clock(ctx, sel.Source, sel.Destination); err != nil {
		return n, err
	}
	pending, err := s.pending(ctx, sel.Source, sel.Destination, "+inf", relay.MaxTouched-n)
	if err != nil || len(pending) == 0 {
		return n, err
	}
	c := discard(pending)
	if s.run(ctx, c); c.err != nil {
		return n, c.err
	}
	done, _ := c.reply.(int64)
	return n + int(done), s.look(ctx, sel.Source)
}

// groupCall begins a call on deliveries of one destination.
func (s *Store) groupCall(script *script, group []letter) *call {
	source, destination := group[0].source, group[0].destination
	c := &call{script: script, durable: true, keys: s.keys.destination(s.keys.source(source, blockSize+len(group)), source, destination)}
	for _, l := range group {
		c.keys = append(c.keys, s.keys.event(source, l.id))
	}
	return c
}

// bulk does something with up to MaxTouched dead letters of a selection that come after a row, oldest first: with those
// of each destination in one script. A script counts only what another gateway has not done meanwhile. next is the cursor
// of the last row, and empty if there are no more.
func (s *Store) bulk(ctx context.Context, sel relay.Selection, from *row, do func([]letter) *call) (done int, next string, err error) {
	ctx, end, err := s.enter(ctx)
	if err != nil {
		return 0, "", err
	}
	defer end()
	shelves, err := s.deadShelves(ctx, sel)
	if err != nil {
		return 0, "", err
	}
	touched := map[relay.DestinationName]bool{}
	defer func() {
		for name := range touched {
			s.wake(name)
			s.tell(name)
			err = errors.Join(err, s.look(ctx, name.Source))
		}
	}()
	for done < relay.MaxTouched {
		n := relay.MaxTouched - done
		letters, rows, err := s.letters(ctx, shelves, sel, from, false, n)
		if err != nil {
			return done, "", err
		}
		groups := map[relay.DestinationName][]letter{}
		var names []relay.DestinationName // in the order of their oldest
		for i, l := range letters {
			l.place = done + i
			name := relay.DestinationName{Source: l.source, Destination: l.destination}
			if groups[name] == nil {
				names = append(names, name)
			}
			groups[name] = append(groups[name], l)
		}
		var calls []*call
		for _, name := range names {
			calls = append(calls, do(groups[name]))
			touched[name] = true
		}
		if len(calls) > 0 {
			s.run(ctx, calls...)
		}
		for _, c := range calls {
			if c.err != nil {
				return done, "", c.err
			}
			n, _ := c.reply.(int64)
			done += int(n)
		}
		if len(rows) < n {
			return done, "", nil
		}
		from = &rows[len(rows)-1]
	}
	return done, from.cursor(), nil
}

// pending gives up to n pending deliveries of a destination that were accepted at `until` by the source's clock or
// before, oldest first. What is leased is passed over.
func (s *Store) pending(ctx context.Context, source, destination, until string, n int) ([]letter, error) {
	ids, err := s.client.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: s.keys.pending(source, destination), ByScore: true, Start: "-inf", Stop: until, Count: 2 * relay.MaxTouched,
	}).Result()
	if err != nil {
		return nil, explain(err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows := make([]row, len(ids))
	for i, id := range ids {
		rows[i] = row{source: source, destination: destination, id: id}
	}
	states, err := s.states(ctx, rows)
	if err != nil {
		return nil, err
	}
	var found []letter
	for i, r := range rows {
		if states[i].state == relay.StatePending && len(found) < n {
			found = append(found, letter{row: r, record: states[i]})
		}
	}
	return found, nil
}
