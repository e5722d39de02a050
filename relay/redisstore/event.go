package redisstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Event implements relay.Store.
func (s *Store) Event(ctx context.Context, id string) (*relay.EventRecord, error) {
	ctx, end, err := s.beginForOperator(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	h, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	rows := []row{{shard: h, id: id}}
	headers, err := s.headers(ctx, rows)
	if err != nil {
		return nil, err
	}
	records, err := s.completed(ctx, rows, headers)
	if err != nil {
		return nil, err
	}
	// After the deliveries, so that every attempt and file is there of which their states tell.
	pipe := s.client.Pipeline()
	hash, payload := pipe.HGetAll(ctx, h.event(id)), pipe.Get(ctx, h.payload(id))
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, explain(err)
	}
	rec, all := records[0], hash.Val()
	if rec == nil || payload.Val() == "" && all["m"] == "" {
		return nil, fmt.Errorf("event %q: %w", id, relay.ErrNotFound)
	}
	if payload.Val() != "" {
		e, _, err := decodePayload(h.source, id, payload.Val())
		if err != nil {
			return nil, err
		}
		rec.Headers, rec.Body = e.Headers, e.Body
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
				text = headers[0].pack.attempt(d.Destination)
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
