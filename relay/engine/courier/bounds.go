package courier

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// bounds are those of an attempt in time: the destination's timeout, and that of reading the response's body.
type bounds struct {
	ctx context.Context // of the request
	at  time.Time       // when the attempt, or the reading, is over

	// A transport that does not keep to the deadline of a context is ended by its Done. One timer serves for both bounds.
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// within returns the bounds of an attempt that begins at start. It is over earlier where ctx ends.
func within(ctx context.Context, dst *relay.Destination, start time.Time) *bounds {
	b := &bounds{at: start.Add(dst.Timeout)}
	if _, ok := dst.Transport.(*Lean); ok {
		b.ctx = &deadline{ctx, b.at}
		return b
	}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.timer = time.AfterFunc(dst.Timeout, func() { b.cancel(context.DeadlineExceeded) })
	return b
}

// boundBody bounds the reading of a response's body.
func (b *bounds) boundBody(res *http.Response) {
	now := time.Now()
	if at := now.Add(bodyWithin); at.Before(b.at) {
		b.at = at
	}
	if b.timer != nil {
		b.timer.Reset(b.at.Sub(now))
	} else if e, ok := res.Body.(*exchange); ok && !e.buffered() {
		e.bound(b.at)
	}
}

// passed reports whether the attempt, or the reading, has taken too long.
func (b *bounds) passed() bool {
	if b.timer != nil {
		return errors.Is(context.Cause(b.ctx), context.DeadlineExceeded)
	}
	return !time.Now().Before(b.at)
}

func (b *bounds) end() {
	if b.timer != nil {
		b.timer.Stop()
		b.cancel(nil)
	}
}

// deadline is a context with a deadline that does not end by it, which costs neither a timer nor a registration.
type deadline struct {
	context.Context
	at time.Time
}

// Deadline returns when the work is to be over.
func (d *deadline) Deadline() (time.Time, bool) { return d.at, true }
