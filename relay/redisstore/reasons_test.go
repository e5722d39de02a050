package redisstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

// A reason that several steps share is shown once, and others beside it.
func TestReasonsAreShownOnce(t *testing.T) {
	refused := explain(errors.New("dial tcp 127.0.0.1:6379: connect: connection refused"))
	late := func(port int) error {
		return explain(fmt.Errorf("read tcp 127.0.0.1:%d->127.0.0.1:6379: i/o timeout", port))
	}
	full := errors.New("redis: maxmemory is reached")
	for _, test := range []struct {
		err  error
		want string
	}{
		{join(refused), "store unavailable: redis: dial tcp 127.0.0.1:6379: connect: connection refused"},
		{join(join(refused, refused), nil, refused), "store unavailable: redis: dial tcp 127.0.0.1:6379: connect: connection refused"},
		{join(fmt.Errorf("listening to channel relay:wake: %w", refused), refused), "store unavailable: redis: dial tcp 127.0.0.1:6379: connect: connection refused"},
		{join(fmt.Errorf("listening to channel relay:wake: %w", refused)), "listening to channel relay:wake: store unavailable: redis: dial tcp 127.0.0.1:6379: connect: connection refused"},
		{join(late(40001), late(40002)), "store unavailable: redis: read tcp 127.0.0.1:6379: i/o timeout"},
		{join(full, join(late(40001), full)), "redis: maxmemory is reached; store unavailable: redis: read tcp 127.0.0.1:6379: i/o timeout"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("it says %q, not %q", got, test.want)
		}
	}
	if err := join(full, refused); !errors.Is(err, relay.ErrUnavailable) || !errors.Is(err, full) {
		t.Errorf("%v is none of its reasons", err)
	}
	if err := join(nil, join()); err != nil {
		t.Errorf("no reason is %v", err)
	}
}
