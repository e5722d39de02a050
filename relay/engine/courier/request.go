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

// request returns the request of an attempt: the body byte for byte, unless the destination rewrites it, and headers by which a consumer can distinguish deliveries.
func (c *Courier) request(ctx context.Context, dst *relay.Destination, d *relay.Leased, at time.Time, traceparent string) (*http.Request, error) {
	ev := d.Event
	content := ev.Body
	if dst.Rewrite != nil {
		content = dst.Rewrite(content)
	}
	u := *dst.URL
	header := make(http.Header, 13+len(dst.Header))
	req := (&http.Request{
		Method: http.MethodPost, URL: &u, Host: u.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: http.NoBody, ContentLength: int64(len(content)),
	}).WithContext(ctx)
	if len(content) > 0 {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		req.Body, _ = req.GetBody()
	}

	values := make([]string, 0, 11) // of all headers, in one allocation
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
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
	// An entry without a value is not sent, but tells net/http that the request may be repeated where a kept connection
	// turns out to be closed. It may: the webhook-id is the consumer's idempotency key.
	header["X-Idempotency-Key"] = nil
	if dst.Signer != nil {
		signature, err := dst.Signer.Sign(ev.ID, at, content)
		if err != nil {
			return nil, errors.New("signing failed")
		}
		set("Webhook-Signature", signature)
	}
	for name, values := range dst.Header {
		if name == "Host" {
			req.Host = values[0]
			continue
		}
		header[name] = values
	}
	return req, nil
}
