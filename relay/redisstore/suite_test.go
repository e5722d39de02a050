package redisstore_test

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/internal/storetest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

func TestSuite(t *testing.T) { suite(t, func(*redisstore.Options) {}) }

func TestSuiteOnACluster(t *testing.T) {
	masters := redistest.Cluster(t)
	suite(t, func(o *redisstore.Options) { o.Addresses, o.Cluster = []string{masters[0].Addr}, true })
}

func suite(t *testing.T, change func(*redisstore.Options)) {
	storetest.Run(t, func(t *testing.T) *storetest.Harness {
		another := func() *redisstore.Store {
			s := open(t, func(o *redisstore.Options) {
				o.Timeout = 20 * time.Second // the largest bodies take their time where others use the machine, too
				change(o)
			})
			s.FollowSkew()
			return s
		}
		h := &storetest.Harness{Store: another()}
		h.Advance = func(d time.Duration) { h.Store.(*redisstore.Store).Advance(d) }
		h.Reopen = func() {
			t.Helper()
			if err := h.Store.Close(); err != nil {
				t.Fatal(err)
			}
			h.Store = another()
		}
		h.Another = func() relay.Store { return another() }
		h.Refresh = func(s relay.Store) { s.(*redisstore.Store).Refresh() }
		return h
	})
}
