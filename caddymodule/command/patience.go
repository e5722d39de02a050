package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// dialWithin bounds how long it takes to connect to the admin endpoint.
	dialWithin = 10 * time.Second
	// answerWithin is how long the gateway may be silent before and within an answer. The slowest one takes a callback, which may
	// wait for as long as its source's ack_within allows.
	answerWithin = 30 * time.Second
	// stepWithin is how long the gateway may be silent while it works through many deliveries, which gives way to callbacks.
	stepWithin = 5 * time.Minute
)

// silence is why a request is given up: the gateway has said nothing for too long.
type silence struct {
	address string
	within  time.Duration
}

func (s *silence) Error() string {
	return fmt.Sprintf("the Caddy at %s says nothing for %s: it hangs, is overloaded, or waits for the reader of its log; what was asked for may still be done",
		s.address, s.within)
}

// attended is the body of an answer. Reading it ends with a silence once the gateway is silent for too long; how long it takes to
// do something with what was read does not count.
type attended struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	within time.Duration
}

// attend returns a context for a request that ends, with a silence as its cause, when the gateway says nothing for within. The
// caller sets the body of a, or releases it.
func (c *client) attend(ctx context.Context, within time.Duration) (context.Context, *attended) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(within, func() { cancel(&silence{c.address, within}) })
	return ctx, &attended{ctx: ctx, cancel: cancel, timer: timer, within: within}
}

func (a *attended) Read(p []byte) (int, error) {
	a.timer.Reset(a.within)
	n, err := a.ReadCloser.Read(p)
	a.timer.Stop()
	if err != nil && a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	return n, err
}

func (a *attended) Close() error {
	defer a.release()
	return a.ReadCloser.Close()
}

func (a *attended) release() {
	a.timer.Stop()
	a.cancel(nil)
}

// givenUp returns why this side has ended a request that failed with err, or nil if it has not: the gateway was silent, or ctx,
// which is the caller's, has ended.
func givenUp(ctx context.Context, err error) error {
	if s, silent := errors.AsType[*silence](err); silent {
		return s
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
