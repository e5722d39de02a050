// Package courier makes attempts: one request to a destination, and what comes of it.
package courier

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	// maxRetryAfter is the most that a destination may ask for by Retry-After.
	maxRetryAfter   = time.Hour
	keptResponse    = 4 << 10  // bytes of a destination's response that are stored
	drainedResponse = 64 << 10 // bytes that are read, so that the connection can be used again
)

// Courier makes attempts.
type Courier struct{ userAgent string }

// New returns a courier that tells destinations who it is.
func New(userAgent string) *Courier { return &Courier{userAgent} }

// Answer is what came of one attempt.
type Answer struct {
	relay.Attempt
	RetryAfter time.Duration // zero where the destination named none
	Released   bool          // the engine stops; the attempt says nothing
}

// Success reports whether the destination has taken the event.
func (a *Answer) Success() bool { return success(a.Status) }

// Attempt sends the event to the destination and reads the answer. When ctx, the engine's, ends first, the answer is
// Released.
func (c *Courier) Attempt(engine context.Context, dst *relay.Destination, d *relay.Leased) *Answer {
	a := &Answer{Attempt: relay.Attempt{At: time.Now()}}
	ctx, cancel := context.WithTimeout(engine, dst.Timeout)
	defer cancel()
	defer func() { a.Duration = time.Since(a.At) }()

	req, err := c.request(ctx, dst, d, a.At)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	res, err := dst.Transport.RoundTrip(req)
	if err != nil {
		a.Released = engine.Err() != nil
		a.Error = attemptError(err, ctx, dst.Timeout)
		return a
	}
	defer func() { _ = res.Body.Close() }()
	a.Response, err = readResponse(res)
	if err != nil {
		a.Released = engine.Err() != nil
		a.Error = "reading the response: " + attemptError(err, ctx, dst.Timeout)
		if !success(res.StatusCode) {
			a.Status = res.StatusCode
		}
		return a
	}
	a.Status = res.StatusCode
	if a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable {
		a.RetryAfter = retryAfter(res.Header.Get("Retry-After"), time.Now())
	}
	return a
}

// request makes the request of an attempt: the body as it came, and headers by which a consumer can tell deliveries apart.
func (c *Courier) request(ctx context.Context, dst *relay.Destination, d *relay.Leased, at time.Time) (*http.Request, error) {
	ev := d.Event
	u := *dst.URL
	header := make(http.Header, 12+len(dst.Header))
	req := (&http.Request{
		Method: http.MethodPost, URL: &u, Host: u.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(ev.Body)), ContentLength: int64(len(ev.Body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(ev.Body)), nil },
	}).WithContext(ctx)

	values := make([]string, 0, 10) // of all headers, in one allocation
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("Content-Type", cmp.Or(ev.Headers["content-type"], "application/json"))
	set("User-Agent", c.userAgent)
	set("Webhook-Id", ev.ID)
	set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	set("Relay-Source", ev.Source)
	set("Relay-Task-Id", ev.TaskID)
	set("Relay-Attempt", strconv.Itoa(d.Tries+1))
	if d.Replay > 0 {
		set("Relay-Replay", strconv.Itoa(d.Replay))
	}
	set("Traceparent", traceparent(ev))
	if dst.Signer != nil {
		signature, err := dst.Signer.Sign(ev.ID, at, ev.Body)
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

// readResponse keeps the beginning of a response and reads on to its end, so far as that is worth a connection.
func readResponse(res *http.Response) ([]byte, error) {
	if res.ContentLength == 0 {
		return nil, nil
	}
	kept, err := io.ReadAll(io.LimitReader(res.Body, keptResponse))
	if err != nil {
		return kept, err
	}
	if len(kept) == keptResponse {
		_, err = io.CopyN(io.Discard, res.Body, drainedResponse-keptResponse)
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if len(kept) == 0 {
		kept = nil
	}
	return kept, err
}

// attemptError says why there was no response, without the URL: a URL may carry a secret, and the error is stored.
func attemptError(err error, ctx context.Context, timeout time.Duration) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "timeout after " + timeout.String()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	text := err.Error()
	const longest = 500
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "")
	}
	return text
}

func success(status int) bool { return status >= 200 && status < 300 }

// retryAfter reads the header as RFC 9110, section 10.2.3, defines it: seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
