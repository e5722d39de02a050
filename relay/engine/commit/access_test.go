package commit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/engine/commit"
)

type store struct{ relay.Store } // of which only the identity counts here

func TestAwaitLastsWhileTheStoreIsBeingOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		access := commit.NewAccess()
		opened := store{}
		time.AfterFunc(time.Second, access.Opening)
		time.AfterFunc(2*time.Second, func() { access.Opened(opened) })

		short, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if _, err := access.Await(short); !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("after 1.5 s: %v", err)
		}
		start := time.Now()
		got, err := access.Await(t.Context())
		if got != opened || err != nil || time.Since(start) != 500*time.Millisecond {
			t.Errorf("after %v: %v, %v", time.Since(start), got, err)
		}
	})
}

func TestAwaitEndsWhereNothingIsToBeWaitedFor(t *testing.T) {
	access := commit.NewAccess()
	broken := errors.New("no such folder")
	access.Failed(broken)
	if _, err := access.Await(t.Context()); !errors.Is(err, broken) {
		t.Errorf("after a failure: %v", err)
	}
	access.Opened(store{})
	if access.Close() == nil {
		t.Error("the store was not returned")
	}
	if _, err := access.Await(t.Context()); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if access.Close() != nil {
		t.Error("the store was returned twice")
	}
}
