package command

import (
	"context"
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

// attention ends a request once the gateway is silent for too long.
type attention struct {
	within time.Duration
	timer  *time.Timer
}

// attend returns a context that ends, with a silence as its cause, when the gateway has not been heard for within. The caller
// calls release.
func (c *client) attend(ctx context.Context, within time.Duration) (_ context.Context, a *attention, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(within, func() { cancel(&silence{c.address, within}) })
	return ctx, &attention{within, timer}, func() {
		timer.Stop()
		cancel(nil)
	}
}

// to returns a reader whose bytes are heard.
func (a *attention) to(body io.Reader) io.Reader { return heard{body, a} }

type heard struct {
	io.Reader
	attention *attention
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if err == nil {
		h.attention.timer.Reset(h.attention.within)
	}
	return n, err
}
