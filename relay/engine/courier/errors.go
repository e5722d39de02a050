package courier

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/callbackrelay/caddy-relay/relay/internal/cause"
)

// The phases of a request, as errors name them.
const (
	connecting = "connecting"
	sending    = "sending the request"
	waiting    = "waiting for the response"
)

// failure is why there was no response.
type failure struct {
	proxy string // host and port of the proxy that the request went through; empty without one
	phase string
	err   error
}

func (f *failure) Error() string {
	text := f.phase + ": " + cause.Of(f.err)
	if r, ok := errors.AsType[refusal](f.err); ok {
		text = r.Error()
	}
	if f.proxy != "" {
		return "through the proxy " + f.proxy + ": " + text
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// refusal is the status by which a proxy refused a request.
type refusal int

func (r refusal) Error() string {
	return strings.TrimSpace("refused with " + strconv.Itoa(int(r)) + " " + http.StatusText(int(r)))
}

// timedOut returns err with the timeout as its reason: what a transport returns after one depends on where it was.
func timedOut(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return &failure{f.proxy, f.phase, context.DeadlineExceeded}
	}
	return context.DeadlineExceeded
}

// sentence returns what an operator reads about an attempt without a response. It holds neither a URL, which may carry a
// secret, nor anything that the destination sent, which may be an echo of one.
func sentence(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.Error()
	}
	return cause.Of(err)
}
