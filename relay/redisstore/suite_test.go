package redisstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/internal/storetest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, harness(func(*redisstore.Options) {}))
}

// A Cluster parts each source by default. The gateways of this suite read whatever they lease.
func TestSuiteOnACluster(t *testing.T) {
	t.Parallel()
	masters := redistest.Cluster(t)
	open := harness(func(o *redisstore.Options) { o.Addresses, o.Cluster = []string{masters[0].Addr}, true }, (*redisstore.Store).Forgetful)
	storetest.Run(t, func(t storetest.T) *storetest.Harness {
		h := open(t)
		h.Parted = true
		return h
	})
}

func TestModel(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 16} {
		t.Run(fmt.Sprint(partitions, " partitions"), func(t *testing.T) {
			t.Parallel()
			var prepare []func(*redisstore.Store)
			if partitions > 1 {
				prepare = append(prepare, (*redisstore.Store).Forgetful)
			}
			open := harness(func(o *redisstore.Options) { o.Partitions = partitions }, prepare...)
			storetest.Model(t, func(t storetest.T) *storetest.Harness {
				h := open(t)
				h.Store.(*redisstore.Store).Freeze()
				h.Parted = partitions > 1
				return h
			})
		})
	}
}

var prefixes atomic.Int64

// harness returns what opens stores of a suite, each empty at first, with options that change sets, and prepared.
func harness(change func(*redisstore.Options), prepare ...func(*redisstore.Store)) func(t storetest.T) *storetest.Harness {
	return func(t storetest.T) *storetest.Harness {
		prefix := fmt.Sprint("suite-", prefixes.Add(1))
		another := func() *redisstore.Store {
			s := openAs(t, prefix, func(o *redisstore.Options) {
				o.Timeout = 20 * time.Second // the largest bodies take their time where others use the machine, too
				change(o)
			})
			s.FollowSkew()
			for _, prepare := range prepare {
				prepare(s)
			}
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
	}
}
