package redisstore

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/callbackrelay/caddy-relay/relay"
)

// header is an event without headers and body, with what is known of its deliveries without asking their destinations.
type header struct {
	event      *relay.Event
	pack       *pack // nil in the earlier layout
	deliveries []relay.DeliveryRecord
}

// headers reads events; nil where one is gone.
func (s *Store) headers(ctx context.Context, rows []row) ([]*header, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	payloads, packs := make([]*redis.StringCmd, len(rows)), make([]*redis.StringCmd, len(rows))
	former := make([]*redis.SliceCmd, len(rows))
	for i, r := range rows {
		payloads[i] = pipe.GetRange(ctx, r.payload(r.id), 0, payloadBegins-1)
		packs[i] = pipe.HGet(ctx, r.packs(), r.id)
		former[i] = pipe.HMGet(ctx, r.event(r.id), "m", "k", "s", "d")
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, explain(err)
	}
	headers := make([]*header, len(rows))
	for i, r := range rows {
		var err error
		if begins := payloads[i].Val(); begins != "" {
			headers[i], err = s.packedHeader(ctx, r, begins, packs[i])
		} else {
			headers[i], err = formerHeader(r, former[i])
		}
		if err != nil {
			return nil, err
		}
	}
	return headers, nil
}

func (s *Store) packedHeader(ctx context.Context, r row, begins string, record *redis.StringCmd) (*header, error) {
	text, err := record.Result()
	if isNil(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err)
	}
	h := &header{event: &relay.Event{ID: r.id, Source: r.source}}
	_, _, all, err := decodeBeginning(begins, h.event)
	if err == nil && !all {
		if begins, err = s.client.Get(ctx, r.payload(r.id)).Result(); isNil(err) {
			return nil, nil
		} else if err != nil {
			return nil, explain(err)
		}
		_, _, _, err = decodeBeginning(begins, h.event)
	}
	if err != nil {
		return nil, err
	}
	if h.pack, err = decodePack(text); err != nil {
		return nil, err
	}
	h.event.Seq, h.deliveries = h.pack.seq, h.pack.deliveries()
	return h, nil
}

// formerHeader reads an event of the earlier layout.
func formerHeader(r row, read *redis.SliceCmd) (*header, error) {
	known, err := fields(read, 4)
	if err != nil {
		return nil, err
	}
	e, err := decodeEvent(r.source, r.id, known)
	if err != nil || e == nil {
		return nil, err
	}
	h := &header{event: e}
	names, _ := known[3].(string)
	for name := range strings.FieldsSeq(names) {
		h.deliveries = append(h.deliveries, relay.DeliveryRecord{Destination: name})
	}
	return h, nil
}
