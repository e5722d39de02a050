package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// parted opens a store that is to have some number of partitions; 0 is the default.
func parted(t *testing.T, redis *redistest.Server, n int) (*redisstore.Store, error) {
	t.Helper()
	s, err := redisstore.Open(t.Context(), redisstore.Options{Addresses: []string{redis.Addr}, KeyPrefix: t.Name(), Partitions: n})
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// wantUnfit wants both numbers, and what to do.
func wantUnfit(t *testing.T, err error, have, want int) {
	t.Helper()
	var unfit *redisstore.PartitionsError
	if !errors.As(err, &unfit) || unfit.Have != have || unfit.Want != want || !errors.Is(err, relay.ErrStoreUnfit) || !errors.Is(err, relay.ErrUnavailable) {
		t.Fatalf("got %v, want that the prefix has %d and not %d", err, have, want)
	}
	for _, say := range []string{fmt.Sprintf("written with partitions %d", have), fmt.Sprintf("this gateway has partitions %d", want), fmt.Sprintf("set partitions %d", have), "another key_prefix"} {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("it does not say %q: %v", say, err)
		}
	}
}

// The first gateway that writes decides how many partitions a prefix has.
func TestPartitionsOfAPrefix(t *testing.T) {
	s, err := parted(t, server, 4)
	if err != nil {
		t.Fatal(err)
	}
	other, err := parted(t, server, 8) // nothing is written yet
	if err != nil {
		t.Fatal(err)
	}
	accept(t, s, newAccept("one"))
	for _, n := range []int{0, 1, 8} {
		_, err := parted(t, server, n)
		wantUnfit(t, err, 4, max(1, n))
	}
	a := newAccept("one")
	other.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
	wantUnfit(t, a.Err, 4, 8)
	wantUnfit(t, other.Pause(t.Context(), "vocals", "one", true), 4, 8)
	other.Refresh()
	_, _, err = other.Events(t.Context(), relay.EventFilter{})
	wantUnfit(t, err, 4, 8)
	wantUnfit(t, other.Health(t.Context()), 4, 8)
	same, err := parted(t, server, 4)
	if err != nil {
		t.Fatal(err)
	}
	if l := lease(t, same, "one", 5); len(l.Leased) != 1 {
		t.Errorf("leased %d", len(l.Leased))
	}
}

// What was written before there were partitions has one.
func TestPartitionsOfOldData(t *testing.T) {
	old, err := parted(t, server, 1)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, old, newAccept("one"))
	server.Do(t, "DEL", t.Name()+":partitions")
	_, err = parted(t, server, 16)
	wantUnfit(t, err, 1, 16)
	s, err := parted(t, server, 0)
	if err != nil {
		t.Fatal(err)
	}
	if l := lease(t, s, "one", 5); len(l.Leased) != 1 {
		t.Errorf("leased %d", len(l.Leased))
	}
	accept(t, s, newAccept("one"))
	if n := server.Do(t, "GET", t.Name()+":partitions"); n != "1" {
		t.Errorf("the number is %v", n)
	}
}

// Of gateways that begin at the same moment with different numbers, those of one number go on.
func TestPartitionsDecidedAtOnce(t *testing.T) {
	const rounds, gateways = 10, 6
	for round := range rounds {
		var stores []*redisstore.Store
		var numbers []int
		for i := range gateways {
			n := []int{1, 3, 16}[i%3]
			stores = append(stores, open(t, func(o *redisstore.Options) {
				o.KeyPrefix, o.Partitions = fmt.Sprint(t.Name(), round), n
			}))
			numbers = append(numbers, n)
		}
		accepts := make([]*relay.Accept, gateways)
		var wg sync.WaitGroup
		for i, s := range stores {
			accepts[i] = newAccept("one")
			wg.Go(func() { s.Apply(context.Background(), &relay.Batch{Accepts: []*relay.Accept{accepts[i]}}) })
		}
		wg.Wait()
		decided := fmt.Sprint(server.Do(t, "GET", fmt.Sprint(t.Name(), round, ":partitions")))
		for i, a := range accepts {
			var unfit *redisstore.PartitionsError
			if fits := fmt.Sprint(numbers[i]) == decided; fits != (a.Err == nil) || !fits && !errors.As(a.Err, &unfit) {
				t.Errorf("of %s partitions the gateway with %d got %v", decided, numbers[i], a.Err)
			}
		}
	}
}

// Redis that has lost its data has it decided by whoever writes first, and that may be a gateway with another number.
func TestPartitionsAfterALoss(t *testing.T) {
	redis := redistest.Start(t)
	s, err := parted(t, redis, 4)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, s, newAccept("one"))
	redis.Do(t, "FLUSHALL") // of this test's own server
	s.Refresh()
	_, err = parted(t, redis, 2)
	wantUnfit(t, err, 4, 2)
	redis.Do(t, "FLUSHALL")
	other, err := parted(t, redis, 2)
	if err != nil {
		t.Fatal(err)
	}
	accept(t, other, newAccept("one"))
	s.Refresh()
	a := newAccept("one")
	s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
	wantUnfit(t, a.Err, 2, 4)
	redis.Do(t, "DEL", t.Name()+":partitions", t.Name()+":sources")
	if s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}}); a.Err != nil {
		t.Error(a.Err)
	}
}

// A Cluster parts sources by default, but leaves a prefix that has one partition as it is.
func TestPartitionsOfACluster(t *testing.T) {
	t.Parallel()
	masters := redistest.Cluster(t)
	at := func(prefix string, n int) *redisstore.Store {
		return open(t, func(o *redisstore.Options) {
			o.Addresses, o.Cluster, o.KeyPrefix, o.Partitions = []string{masters[0].Addr}, true, prefix, n
		})
	}
	number := func(prefix string) string {
		key := prefix + ":partitions"
		_, owner := redistest.SlotOf(t, masters, key)
		return fmt.Sprint(masters[owner].Do(t, "GET", key))
	}
	accept(t, at("new", 0), newAccept("one"))
	if n := number("new"); n != "16" {
		t.Errorf("a new prefix has %s", n)
	}
	accept(t, at("one", 1), newAccept("one"))
	s := at("one", 0)
	accept(t, s, newAccept("one"))
	if n := number("one"); n != "1" {
		t.Errorf("a prefix of one has %s", n)
	}
	if l := lease(t, s, "one", 5); len(l.Leased) != 2 {
		t.Errorf("leased %d", len(l.Leased))
	}
}

// An idle store runs one script per partition and look, in one pipeline, and a lease that is filled asks no more than it needs.
func TestScriptsOfPartitions(t *testing.T) {
	redis := redistest.Start(t)
	s, err := parted(t, redis, 16)
	if err != nil {
		t.Fatal(err)
	}
	s.Quiet()
	var batch []*relay.Accept
	for range 400 {
		batch = append(batch, newAccept("one"))
	}
	accept(t, s, batch...)
	s.Refresh()
	redis.Do(t, "CONFIG", "RESETSTAT")
	count := func() int { return scripts(t, redis) }
	s.Refresh()
	if n := count(); n != 16 {
		t.Errorf("a look took %d scripts", n)
	}
	before := count()
	for range 20 {
		if l := lease(t, s, "one", 1); len(l.Leased) != 1 || l.Next != 0 {
			t.Fatalf("leased %d, next %v", len(l.Leased), l.Next)
		}
	}
	if n := count() - before; n != 20 {
		t.Errorf("20 leases of one each took %d scripts", n)
	}
	before = count()
	if l := lease(t, s, "one", 100); len(l.Leased) != 100 {
		t.Errorf("leased %d", len(l.Leased))
	}
	if n := count() - before; n > 32 {
		t.Errorf("a lease of 100 took %d scripts", n)
	}
	for range 40 {
		if l := lease(t, s, "one", 100); len(l.Leased) == 0 {
			if l.Next < 50*time.Second || l.Next > time.Minute {
				t.Errorf("with all leased the next is in %v", l.Next)
			}
			return
		}
	}
	t.Error("it never ends")
}

// Events whose key does not name the task are parted by the key, and are found by their task all the same.
func TestPartitionsByKey(t *testing.T) {
	s, err := parted(t, server, 16)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		first := newAccept("one")
		first.ByKey = true
		accept(t, s, first)
		other := again(first)
		other.ByKey, other.Event.TaskID = true, fmt.Sprint("other-", i)
		if accept(t, s, other); other.Result != relay.Duplicate || other.FirstID != first.Event.ID {
			t.Fatalf("the same key of another task gave %v", other.Result)
		}
		events, _, err := s.Events(t.Context(), relay.EventFilter{TaskID: first.Event.TaskID})
		if err != nil || len(events) != 1 || events[0].ID != first.Event.ID {
			t.Fatalf("by its task %v are found, %v", events, err)
		}
	}
	l := lease(t, s, "one", 100)
	if len(l.Leased) != 20 {
		t.Fatalf("leased %d", len(l.Leased))
	}
	for _, d := range l.Leased {
		if err := settle(t, s, d, relay.OutcomeDelivered); err != nil {
			t.Error(err)
		}
	}
}
