package courier

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// send sends the request of an attempt, and returns the response. The body is the callback's byte for byte, unless the
// destination rewrites it.
func (c *Courier) send(ctx context.Context, dst *relay.Destination, d *relay.Leased, at time.Time, traceparent string) (*http.Response, error) {
	body, host := d.Event.Body, dst.URL.Host
	if dst.Rewrite != nil {
		body = dst.Rewrite(body)
	}
	if own := dst.Header["Host"]; len(own) > 0 {
		host = own[0]
	}
	if lean, ok := dst.Transport.(*Lean); ok {
		m := lean.message(ctx, http.MethodPost, dst.URL.RequestURI(), host, body)
		if err := c.headers(dst, d, body, at, traceparent, m.set); err != nil {
			heads.Put(m.head)
			return nil, err
		}
		return lean.send(m)
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: dst.URL, Host: host, Header: make(http.Header, 13+len(dst.Header)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: http.NoBody, ContentLength: int64(len(body)),
	}).WithContext(ctx)
	if len(body) > 0 {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = req.GetBody()
	}
	// An entry without a value is not sent, but tells net/http that the request may be repeated where a kept connection
	// turns out to be closed. It may: the webhook-id is the consumer's idempotency key.
	req.Header["X-Idempotency-Key"] = nil
	values := make([]string, 0, 11+len(dst.Header)) // of all headers, in one allocation
	err := c.headers(dst, d, body, at, traceparent, func(name, value string) {
		if others := req.Header[name]; others != nil {
			req.Header[name] = append(others, value)
			return
		}
		values = append(values, value)
		req.Header[name] = values[len(values)-1 : len(values) : len(values)]
	})
	if err != nil {
		return nil, err
	}
	return dst.Transport.RoundTrip(req)
}

// headers sets all headers by which a consumer can distinguish deliveries, and those that the operator wants, but for Host.
func (c *Courier) headers(dst *relay.Destination, d *relay.Leased, body []byte, at time.Time, traceparent string, add func(name, value string)) error {
	ev := d.Event
	set := add
	if len(dst.Header) > 0 {
		set = func(name, value string) {
			if _, ok := dst.Header[name]; !ok {
				add(name, value)
			}
		}
	}
	switch contentType, ok := ev.Headers["content-type"]; {
	case !ok: // it was no callback
		set("Content-Type", "application/json")
	case contentType != "":
		set("Content-Type", contentType)
	}
	set("User-Agent", c.userAgent)
	set("Webhook-Id", ev.ID)
	set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	set("Relay-Source", ev.Source)
	set("Relay-Task-Id", ev.TaskID)
	set("Relay-Attempt", strconv.Itoa(d.Tries+1))
	if d.Replay > 0 {
		set("Relay-Replay", strconv.Itoa(d.Replay))
	}
	if first := ev.Headers[relay.ConflictHeader]; first != "" {
		set("Relay-Conflict-With", first)
	}
	set("Traceparent", traceparent)
	if dst.Signer != nil {
		signature, err := dst.Signer.Sign(ev.ID, at, body)
		if err != nil {
			return errors.New("signing failed")
		}
		set("Webhook-Signature", signature)
	}
	for name, values := range dst.Header {
		if name == "Host" {
			continue
		}
		for _, value := range values {
			add(name, value)
		}
	}
	return nil
}
