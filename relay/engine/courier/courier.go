// Package courier makes one attempt: it posts an event to a destination, reads the answer, and describes in one sentence what
// went wrong. It knows nothing of lanes, stores or retries, and keeps no goroutine.
package courier

import (
	"context"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Courier makes attempts. Its methods may be called concurrently.
type Courier struct {
	userAgent string
	tracing   *Tracing
}

// New returns a courier that calls itself userAgent.
func New(userAgent string, tracing *Tracing) *Courier { return &Courier{userAgent, tracing} }

// ClientOf returns the name of the client that sends a destination's requests: lean for Lean, caddy for every other
// transport. An archive has none.
func ClientOf(dst *relay.Destination) string {
	if dst.Archiver != nil {
		return ""
	}
	if _, ok := dst.Transport.(*Lean); ok {
		return "lean"
	}
	return "caddy"
}

// Answer is the outcome of one attempt. Its Error may be set beside a Status: the response's body could then not be read,
// which changes nothing about the destination's answer.
type Answer struct {
	relay.Attempt
	RetryAfter time.Duration // zero where the destination named none; at most 1 h
	Released   bool          // the context ended before there was an answer, which is no fault of the destination
	// Files were stored by an archive's attempt, and Missing is why others were not.
	Files   []relay.File
	Missing *relay.ArchiveError
}

// Verdict returns the status that speaks of the destination. A file that its server does not send says nothing against the
// archive, and counts as what a webhook would answer to it.
func (a *Answer) Verdict() int {
	if a.Missing != nil && !a.Missing.Storage {
		return http.StatusUnprocessableEntity
	}
	return a.Status
}

// Final reports whether no other attempt can end better, which is no fault of the destination.
func (a *Answer) Final() bool { return a.Missing != nil && a.Missing.Final }

// Success reports whether the destination has taken the event.
func (a *Answer) Success() bool { return a.Status >= 200 && a.Status < 300 }

// Attempt posts a leased delivery's event to its destination, or has an archive store its files, once, within the
// destination's timeout. It returns early when ctx, the engine's, ends: with Released set, unless the status had been
// received by then.
func (c *Courier) Attempt(ctx context.Context, dst *relay.Destination, d *relay.Leased) *Answer {
	span, traceparent := c.begin(dst, d)
	var a *Answer
	if dst.Archiver != nil {
		a = archive(ctx, dst, d)
	} else {
		a = c.post(ctx, dst, d, traceparent)
	}
	if span != nil {
		end(span, a)
	}
	return a
}

func (c *Courier) post(ctx context.Context, dst *relay.Destination, d *relay.Leased, traceparent string) *Answer {
	a := &Answer{Attempt: relay.Attempt{At: time.Now()}}
	defer func() { a.Duration = time.Since(a.At) }()

	bounds := within(ctx, dst, a.At)
	defer bounds.end()
	res, err := c.send(bounds.ctx, dst, archived(dst, d), a.At, traceparent)
	if err != nil {
		a.Released = ctx.Err() != nil
		a.Error = sentence(err)
		if !a.Released && bounds.passed() {
			a.Error = sentence(timedOut(err)) + " after " + dst.Timeout.String()
		}
		return a
	}
	defer func() { _ = res.Body.Close() }()

	a.Status = res.StatusCode
	if a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable {
		a.RetryAfter = retryAfter(res.Header.Get("Retry-After"), time.Now())
	}
	if res.ContentLength == 0 {
		return a
	}
	bounds.boundBody(res)
	a.Response, err = readBody(res.Body)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		a.Error = "reading the response: the gateway stopped"
	case bounds.passed():
		a.Error = "reading the response: it took too long"
	default:
		a.Error = "reading the response: " + sentence(err)
	}
	return a
}
