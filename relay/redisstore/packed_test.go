package redisstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// packed accepts an event that is leased to some destinations at once.
func packed(t *testing.T, s *redisstore.Store, destinations ...string) *relay.Accept {
	t.Helper()
	a := newAccept(destinations...)
	for i := range a.Deliveries {
		a.Deliveries[i].LeaseFor = time.Minute
	}
	accept(t, s, a)
	if len(a.Leased) != len(destinations) {
		t.Fatalf("leased %d", len(a.Leased))
	}
	return a
}

// delivered settles deliveries in one batch.
func delivered(t *testing.T, s *redisstore.Store, leased ...*relay.Leased) {
	t.Helper()
	var b relay.Batch
	for _, l := range leased {
		b.Settles = append(b.Settles, &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Used: true, Attempt: &relay.Attempt{At: time.Now(), Status: 204}})
	}
	s.Apply(t.Context(), &b)
	for _, op := range b.Settles {
		if op.Err != nil {
			t.Fatal(op.Err)
		}
	}
}

// keysOf lists what a Redis holds of a source, without the part that all keys share.
func keysOf(t *testing.T, redis *redistest.Server, prefix string) []string {
	t.Helper()
	all, _ := redis.Do(t, "KEYS", prefix+":{vocals}:*").([]any)
	names := make([]string, len(all))
	for i, key := range all {
		names[i] = strings.TrimPrefix(key.(string), prefix+":{vocals}:")
	}
	slices.Sort(names)
	return names
}

// An event that is delivered by the leases of its accept has a payload and a record, and its deliveries have neither keys nor members.
func TestTheCommonPathIsPacked(t *testing.T) {
	redis := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
	a := packed(t, s, "one", "two", "three")
	delivered(t, s, a.Leased[:2]...)
	delivered(t, s, a.Leased[2:]...)
	want := []string{"done", "events", "head", "meta", "packs", "recent", "seen", "tasks", "v:" + a.Event.ID}
	if got := keysOf(t, redis, t.Name()); !slices.Equal(got, want) {
		t.Errorf("keys are %v, want %v", got, want)
	}
	r, err := s.Event(t.Context(), a.Event.ID)
	if err != nil || len(r.Deliveries) != 3 || string(r.Body) != string(a.Event.Body) || r.TaskID != a.Event.TaskID || r.Headers["content-type"] == "" {
		t.Fatalf("the event is %+v, %v", r, err)
	}
	for _, d := range r.Deliveries {
		if d.State != relay.StateDelivered || d.Tries != 1 || len(d.Attempts) != 1 || d.Attempts[0].Status != 204 {
			t.Errorf("a delivery is %+v", d)
		}
	}
	s.Refresh()
	for _, c := range s.Counts() {
		if c.Delivered != 1 || c.InFlight+c.Pending != 0 {
			t.Errorf("counts are %+v", c)
		}
	}
	if p, err := s.Purge(t.Context(), relay.PurgePolicy{DefaultWindow: time.Hour}); err != nil || p.Events != 1 || len(p.Deliveries) != 3 {
		t.Errorf("purged %+v, %v", p, err)
	}
	if got := keysOf(t, redis, t.Name()); !slices.Equal(got, []string{"head", "meta", "recent", "seen"}) {
		t.Errorf("left are %v", got)
	}
}

// A delivery that leaves the common path has members of its own from then on; the others of its event stay packed.
func TestUnpacking(t *testing.T) {
	for name, leave := range map[string]func(s *redisstore.Store, a *relay.Accept) (relay.State, error){
		"retried": func(s *redisstore.Store, a *relay.Accept) (relay.State, error) {
			return relay.StatePending, settle(t, s, a.Leased[0], relay.OutcomeRetry)
		},
		"released": func(s *redisstore.Store, a *relay.Accept) (relay.State, error) {
			return relay.StatePending, settle(t, s, a.Leased[0], relay.OutcomeRelease)
		},
		"dead": func(s *redisstore.Store, a *relay.Accept) (relay.State, error) {
			return relay.StateDead, settle(t, s, a.Leased[0], relay.OutcomeDead)
		},
		"replayed": func(s *redisstore.Store, a *relay.Accept) (relay.State, error) {
			delivered(t, s, a.Leased[0])
			n, _, err := s.Replay(t.Context(), a.Event.ID, []string{"one", "two"}, 0)
			if n != 1 {
				return "", fmt.Errorf("%d were replayed", n)
			}
			return relay.StatePending, err
		},
		"in doubt": func(s *redisstore.Store, a *relay.Accept) (relay.State, error) {
			b := *a
			b.Again = true
			accept(t, s, &b)
			if len(b.Leased) != 2 || settle(t, s, a.Leased[0], relay.OutcomeDelivered) == nil {
				return "", fmt.Errorf("leased %d anew, and the former lease counts", len(b.Leased))
			}
			a.Leased = b.Leased
			return relay.StateInFlight, nil
		},
	} {
		t.Run(name, func(t *testing.T) { testUnpacking(t, packed, leave) })
		if name != "in doubt" {
			t.Run(name+" after it waited", func(t *testing.T) { testUnpacking(t, waiting, leave) })
		}
	}
}

func testUnpacking(
	t *testing.T, accept func(*testing.T, *redisstore.Store, ...string) *relay.Accept, leave func(*redisstore.Store, *relay.Accept) (relay.State, error),
) {
	s := open(t)
	a := accept(t, s, "one", "two")
	want, err := leave(s, a)
	if err != nil {
		t.Fatal(err)
	}
	state := func(destination string) (d relay.DeliveryRecord) {
		r, err := s.Event(t.Context(), a.Event.ID)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(r.Deliveries, func(d relay.DeliveryRecord) bool { return d.Destination == destination })
		return r.Deliveries[i]
	}
	if d := state("one"); d.State != want || len(d.Attempts) != d.Tries {
		t.Errorf("it is %+v, want %s", d, want)
	}
	if d := state("two"); d.State != relay.StateInFlight {
		t.Errorf("the other one is %s", d.State)
	}
	delivered(t, s, a.Leased[1])
	s.Refresh()
	for _, c := range s.Counts() {
		n := map[relay.State]int64{relay.StatePending: c.Pending, relay.StateInFlight: c.InFlight, relay.StateDead: c.Dead}[want]
		if c.Destination == "one" && n != 1 || c.Destination == "two" && c.Delivered != 1 || c.Pending+c.InFlight+c.Delivered+c.Dead != 1 {
			t.Errorf("counts are %+v", c)
		}
	}
}

// waiting accepts an event that is leased to some destinations by their lanes.
func waiting(t *testing.T, s *redisstore.Store, destinations ...string) *relay.Accept {
	t.Helper()
	a := newAccept(destinations...)
	accept(t, s, a)
	b := relay.Batch{}
	for _, d := range destinations {
		b.Leases = append(b.Leases, &relay.Lease{Source: "vocals", Destination: d, Max: 2, For: time.Minute})
	}
	s.Apply(t.Context(), &b)
	for _, l := range b.Leases {
		if l.Err != nil || len(l.Leased) != 1 || l.Next <= 0 {
			t.Fatalf("lease gave %+v", l)
		}
		a.Leased = append(a.Leased, l.Leased...)
	}
	return a
}

// A delivery that waits is a member of one set, and has no record of its own unless its first lease ends otherwise than by its delivery.
func TestWhatWaitsIsPacked(t *testing.T) {
	redis := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
	a := newAccept("one", "two")
	accept(t, s, a)
	shown := func(want relay.State, tries int) {
		t.Helper()
		r, err := s.Event(t.Context(), a.Event.ID)
		if err != nil || len(r.Deliveries) != 2 {
			t.Fatalf("the event is %+v, %v", r, err)
		}
		for _, d := range r.Deliveries {
			if d.State != want || d.Tries != tries || len(d.Attempts) != tries {
				t.Errorf("a delivery is %+v, want %s", d, want)
			}
		}
	}
	has := func(want ...string) {
		t.Helper()
		want = slices.Sorted(slices.Values(append(want, "events", "head", "meta", "packs", "recent", "seen", "tasks", "v:"+a.Event.ID)))
		if got := keysOf(t, redis, t.Name()); !slices.Equal(got, want) {
			t.Errorf("keys are %v, want %v", got, want)
		}
	}
	shown(relay.StatePending, 0)
	has("q:one:due", "q:two:due")
	leased := []*relay.Leased{lease(t, s, "one", 1).Leased[0], lease(t, s, "two", 1).Leased[0]}
	shown(relay.StateInFlight, 0)
	has("q:one:leased", "q:two:leased")
	delivered(t, s, leased...)
	shown(relay.StateDelivered, 1)
	has("done")
	s.Refresh()
	for _, c := range s.Counts() {
		if c.Delivered != 1 || c.InFlight+c.Pending != 0 {
			t.Errorf("counts are %+v", c)
		}
	}
}

// A delivery whose first lease Redis has lost, because it failed over or was started again, counts as delivered by that.
func TestALeaseThatRedisLostIsSettled(t *testing.T) {
	s := open(t)
	a := waiting(t, s, "one", "two")
	at := t.Name() + ":{vocals}:q:one:"
	server.Do(t, "ZREM", at+"leased", a.Event.ID)
	server.Do(t, "ZADD", at+"due", a.Event.Seq, a.Event.ID)
	delivered(t, s, a.Leased...)
	if l := lease(t, s, "one", 1); len(l.Leased) != 0 {
		t.Errorf("it is leased anew: %+v", l.Leased[0])
	}
	s.Refresh()
	for _, c := range s.Counts() {
		if c.Delivered != 1 || c.Pending != 0 || c.InFlight != 0 {
			t.Errorf("counts are %+v", c)
		}
	}
}

// What waits is counted wherever its record is: in its event's, in one of its own, or nowhere once its event is gone.
func TestWhatWaitsIsCounted(t *testing.T) {
	s := open(t)
	var b relay.Batch
	for range 20 { // enough for sets with an index
		b.Accepts = append(b.Accepts, newAccept("one"))
	}
	s.Apply(t.Context(), &b)
	counts := func(pending, leased, delivered, dead int64) {
		t.Helper()
		s.Refresh()
		want := relay.Count{Source: "vocals", Destination: "one", Pending: pending, InFlight: leased, Delivered: delivered, Dead: dead}
		for _, c := range s.Counts() {
			if c.OldestPending > 0 != (pending+leased > 0) {
				t.Errorf("the oldest is %s old", c.OldestPending)
			}
			if c.OldestPending = 0; c != want {
				t.Errorf("counts are %+v, want %+v", c, want)
			}
		}
	}
	counts(20, 0, 0, 0)
	l := lease(t, s, "one", 10).Leased
	counts(10, 10, 0, 0)
	delivered(t, s, l[:8]...)
	counts(10, 2, 8, 0)
	if err := settle(t, s, l[8], relay.OutcomeRelease); err != nil {
		t.Fatal(err)
	}
	if err := settle(t, s, l[9], relay.OutcomeDead); err != nil {
		t.Fatal(err)
	}
	counts(11, 0, 8, 1)
	lost := b.Accepts[19].Event.ID
	server.Do(t, "HDEL", t.Name()+":{vocals}:packs", lost)
	server.Do(t, "DEL", t.Name()+":{vocals}:v:"+lost)
	delivered(t, s, lease(t, s, "one", 20).Leased...)
	counts(0, 0, 18, 2)
}

// The oldest delivery grows older while nobody looks.
func TestTheOldestDeliveryAges(t *testing.T) {
	s := open(t)
	accept(t, s, newAccept("one"))
	oldest := func() time.Duration { return s.Counts()[0].OldestPending }
	redistest.Eventually(t, 10*time.Second, "a look", func() bool { s.Refresh(); return len(s.Counts()) == 1 && oldest() > 0 })
	if before := oldest(); before >= oldest() {
		t.Errorf("it is %s old, and stays so", before)
	}
}

// Of two settles of one delivery in a batch the first one counts, with its own attempt.
func TestADeliveryIsSettledOnce(t *testing.T) {
	for name, leased := range map[string]func(*testing.T, *redisstore.Store, ...string) *relay.Accept{"leased at once": packed, "after it waited": waiting} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			a := leased(t, s, "one", "two")
			b := relay.Batch{Settles: []*relay.Settle{
				{Leased: a.Leased[0], Outcome: relay.OutcomeDelivered},
				{Leased: a.Leased[1], Outcome: relay.OutcomeDelivered},
				{Leased: a.Leased[0], Outcome: relay.OutcomeDelivered, Used: true, Attempt: &relay.Attempt{At: time.Now(), Status: 204}},
			}}
			s.Apply(t.Context(), &b)
			for _, op := range b.Settles {
				if op.Err != nil {
					t.Error(op.Err)
				}
			}
			r, err := s.Event(t.Context(), a.Event.ID)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.Deliveries {
				if d.State != relay.StateDelivered || d.Tries != 0 || len(d.Attempts) != 0 {
					t.Errorf("a delivery is %+v", d)
				}
			}
		})
	}
}

// A delivery that was discarded is not left behind by a reassignment to a destination whose delivery of the event is packed.
func TestADiscardedDeliveryIsNotLeft(t *testing.T) {
	s := open(t)
	accept(t, s, newAccept("one", "two"))
	if n, _, err := s.Discard(t.Context(), relay.Selection{Source: "vocals", Destination: "one", Orphaned: true}, ""); n != 1 || err != nil {
		t.Fatalf("discarded %d, %v", n, err)
	}
	if r, _, err := s.Reassign(t.Context(), "vocals", "one", "two", ""); r.Left != 0 || r.Moved != 0 || err != nil {
		t.Errorf("reassigned %+v, %v", r, err)
	}
}

// The leases of a batch are one script of their source.
func TestLeasesOfABatchAreAScript(t *testing.T) {
	redis := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
	s.Quiet()
	waiting(t, s, "one", "two", "three") // the scripts are known then
	accept(t, s, newAccept("one", "two", "three"), newAccept("one", "two", "three"))
	redis.Do(t, "CONFIG", "RESETSTAT")
	var b relay.Batch
	for _, d := range []string{"one", "two", "three"} {
		b.Leases = append(b.Leases, &relay.Lease{Source: "vocals", Destination: d, Max: 5, For: time.Minute})
	}
	s.Apply(t.Context(), &b)
	for _, l := range b.Leases {
		if l.Err != nil || len(l.Leased) != 2 || len(l.Leased[0].Event.Body) == 0 {
			t.Errorf("lease gave %+v", l)
		}
	}
	stats, _ := redis.Do(t, "INFO", "commandstats").(string)
	if n := scripts(t, redis); n != 1 || !strings.Contains(stats, "cmdstat_get:calls=1,") { // that is of the clock of tests
		t.Errorf("it was %d scripts, and then\n%s", n, stats)
	}
}

// A try of an accept in doubt takes only the leases that an earlier try carried, not those that lanes have taken since.
func TestAnAcceptInDoubtLeavesLaterLeases(t *testing.T) {
	s := open(t)
	a := waiting(t, s, "one", "two")
	if err := settle(t, s, a.Leased[0], relay.OutcomeRetry); err != nil {
		t.Fatal(err)
	}
	b := *a
	b.Again, b.Leased = true, nil
	b.Deliveries = slices.Clone(a.Deliveries)
	for i := range b.Deliveries {
		b.Deliveries[i].LeaseFor = time.Minute
	}
	accept(t, s, &b)
	if len(b.Leased) != 0 {
		t.Errorf("it has taken %+v", b.Leased[0])
	}
	delivered(t, s, a.Leased[1])
}

// A gateway of the earlier layout finds no clock where it had one, so that each of its scripts fails before it writes.
func TestAnEarlierGatewayIsRefused(t *testing.T) {
	s := open(t)
	meta := t.Name() + ":{vocals}:meta"
	server.Do(t, "HSET", meta, "wall", 1, "run", 1, "seq", 7, "d:one", 3, "p:one", 1)
	accept(t, s, newAccept("one"))
	err := server.Client(t).Eval(t.Context(), "return redis.call('HMGET', KEYS[1], 'wall', 'run', 'seq')", []string{meta}).Err()
	if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("its first command gave %v", err)
	}
	s.Refresh()
	for _, c := range s.Counts() { // what it knew is known
		if c.Delivered != 3 || !c.Paused || c.Pending != 1 {
			t.Errorf("counts are %+v", c)
		}
	}
}
