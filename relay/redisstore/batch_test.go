package redisstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// scripts returns how many scripts a Redis has run since its statistics were reset.
func scripts(t *testing.T, redis *redistest.Server) int {
	t.Helper()
	text, _ := redis.Do(t, "INFO", "commandstats").(string)
	_, after, _ := strings.Cut(text, "cmdstat_evalsha:calls=")
	n := 0
	_, _ = fmt.Sscanf(after, "%d", &n)
	return n
}

// The accepts of a batch are one script of each source, and so are its settles, unless they touch or bring too much.
func TestABatchIsAScript(t *testing.T) {
	redis := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{redis.Addr} })
	s.Quiet()
	accept(t, s, newAccept("one", "two")) // the script is known then
	if err := settle(t, s, lease(t, s, "one", 1).Leased[0], relay.OutcomeDelivered); err != nil {
		t.Fatal(err)
	}
	count := func(want int, b *relay.Batch) {
		t.Helper()
		redis.Do(t, "CONFIG", "RESETSTAT")
		s.Apply(t.Context(), b)
		for _, a := range b.Accepts {
			if a.Err != nil {
				t.Fatal(a.Err)
			}
		}
		for _, op := range b.Settles {
			if op.Err != nil {
				t.Fatal(op.Err)
			}
		}
		if n := scripts(t, redis); n != want {
			t.Errorf("%d accepts and %d settles were %d scripts, want %d", len(b.Accepts), len(b.Settles), n, want)
		}
	}
	several := func(n int, change func(*relay.Accept)) (b relay.Batch) {
		for range n {
			a := newAccept("one", "two")
			a.Deliveries[0].LeaseFor = time.Minute
			change(a)
			b.Accepts = append(b.Accepts, a)
		}
		return b
	}
	plain := several(relay.MaxTouched/2, func(*relay.Accept) {})
	count(1, &plain)
	var settles []*relay.Settle
	for _, a := range plain.Accepts {
		if len(a.Leased) != 1 {
			t.Fatalf("leased %d", len(a.Leased))
		}
		settles = append(settles, &relay.Settle{Leased: a.Leased[0], Outcome: relay.OutcomeDelivered, Attempt: &relay.Attempt{At: time.Now()}})
	}
	count(1, &relay.Batch{Settles: settles})
	many := several(relay.MaxTouched/2+1, func(*relay.Accept) {})
	count(2, &many)
	large := several(3, func(a *relay.Accept) { a.Event.Body = make([]byte, 1<<19) })
	count(2, &large)
	sources := several(4, func(a *relay.Accept) { a.Event.Source = []string{"vocals", "covers"}[len(a.Event.ID+a.Event.TaskID)%2] })
	sources.Accepts[0].Event.Source, sources.Accepts[1].Event.Source = "vocals", "covers"
	count(2, &sources)
}

// What Redis refuses for what it is takes nothing else of its batch with it, whether or not the script had begun to write.
func TestARefusalIsNoOthers(t *testing.T) {
	s := open(t)
	first := newAccept("one")
	accept(t, s, first)
	for name, leaseFor := range map[string]time.Duration{"before it writes": time.Minute, "having written": 0} {
		t.Run(name, func(t *testing.T) {
			bad, good, last := newAccept("bad"), newAccept("one", "two"), newAccept("one")
			for _, a := range []*relay.Accept{good, last} {
				for i := range a.Deliveries {
					a.Deliveries[i].LeaseFor = time.Minute
				}
			}
			bad.Deliveries[0].LeaseFor = leaseFor // which looks at what is due before
			at := "TestARefusalIsNoOthers:{vocals}:q:bad:due"
			server.Do(t, "SET", at, "something else")
			defer server.Do(t, "DEL", at)
			s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{good, bad, last, again(first)}})
			if !errors.Is(bad.Err, relay.ErrRefused) {
				t.Errorf("the bad one: %v", bad.Err)
			}
			for _, a := range []*relay.Accept{good, last} {
				if a.Err != nil || a.Result != relay.Accepted {
					t.Fatalf("a good one: %v, %v", a.Result, a.Err)
				}
				r, err := s.Event(t.Context(), a.Event.ID)
				if err != nil || len(r.Deliveries) != len(a.Deliveries) {
					t.Errorf("%+v, %v", r, err)
				}
			}
			if r, err := s.Event(t.Context(), first.Event.ID); err != nil || r.Duplicates == 0 {
				t.Errorf("the duplicate was not counted: %+v, %v", r, err)
			}
		})
	}

	// Of leases: one of a destination whose queue holds something else.
	accept(t, s, newAccept("one", "two"))
	at := t.Name() + ":{vocals}:q:bad:due"
	server.Do(t, "SET", at, "something else")
	b := relay.Batch{}
	for _, d := range []string{"one", "bad", "two"} {
		b.Leases = append(b.Leases, &relay.Lease{Source: "vocals", Destination: d, Max: 1, For: time.Minute})
	}
	s.Apply(t.Context(), &b)
	server.Do(t, "DEL", at)
	if one, bad, two := b.Leases[0], b.Leases[1], b.Leases[2]; len(one.Leased) != 1 || !errors.Is(bad.Err, relay.ErrRefused) || len(two.Leased) != 1 {
		t.Errorf("leases ended in %+v, %+v and %+v", one, bad, two)
	}
	s.Refresh()
	for _, c := range s.Counts() {
		if c.Destination == "two" && c.InFlight != 1+2 { // two were leased as they were accepted
			t.Errorf("counts are %+v", c)
		}
	}

	// Of leases: one of a destination with an unreadable record, which is seen only once others are leased.
	bad := newAccept("bad")
	accept(t, s, bad, newAccept("fourth"), newAccept("fourth"))
	if err := settle(t, s, lease(t, s, "bad", 1).Leased[0], relay.OutcomeRelease); err != nil {
		t.Fatal(err)
	}
	server.Do(t, "HSET", t.Name()+":{vocals}:q:bad:state", bad.Event.ID, "something else")
	b.Leases = []*relay.Lease{
		{Source: "vocals", Destination: "fourth", Max: 5, For: time.Minute}, {Source: "vocals", Destination: "bad", Max: 5, For: time.Minute},
	}
	s.Apply(t.Context(), &b)
	if good, bad := b.Leases[0], b.Leases[1]; len(good.Leased) != 2 || good.Err != nil || !errors.Is(bad.Err, relay.ErrRefused) {
		t.Errorf("leases ended in %+v and %+v", good, bad)
	}

	// Of settles: one that stored a file, whose event's hash holds something else.
	var ops []*relay.Settle
	for i := range 3 {
		a := newAccept("third")
		accept(t, s, a)
		l := lease(t, s, "third", 1).Leased[0]
		ops = append(ops, &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: &relay.Attempt{At: time.Now()}})
		if i == 1 {
			ops[i].Files = []relay.File{{Field: "a"}}
			at := t.Name() + ":{vocals}:e:" + a.Event.ID
			server.Do(t, "DEL", at)
			server.Do(t, "SET", at, "something else")
		}
	}
	s.Apply(t.Context(), &relay.Batch{Settles: ops})
	if ops[0].Err != nil || !errors.Is(ops[1].Err, relay.ErrRefused) || ops[2].Err != nil {
		t.Errorf("settles ended in %v, %v and %v", ops[0].Err, ops[1].Err, ops[2].Err)
	}
	s.Refresh()
	for _, c := range s.Counts() {
		if c.Destination == "third" && (c.Delivered != 2 || c.InFlight != 1) {
			t.Errorf("counts are %+v", c)
		}
	}
}

// At maxmemory a batch of accepts is refused as a whole, and one of settles of all kinds passes.
func TestBatchesAtMaxmemory(t *testing.T) {
	full := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{full.Addr} })
	known := newAccept("one")
	accept(t, s, known)
	var settles []*relay.Settle
	for _, outcome := range []relay.Outcome{relay.OutcomeDelivered, relay.OutcomeDelivered, relay.OutcomeDead, relay.OutcomeRetry, relay.OutcomeRelease} {
		a := newAccept("two")
		a.Deliveries[0].LeaseFor = time.Minute
		accept(t, s, a)
		settles = append(settles, &relay.Settle{Leased: a.Leased[0], Outcome: outcome, Attempt: &relay.Attempt{At: time.Now()}})
	}
	full.Do(t, "CONFIG", "SET", "maxmemory", "1mb")
	b := &relay.Batch{Accepts: []*relay.Accept{again(known), newAccept("one"), newAccept("two")}}
	s.Apply(t.Context(), b)
	for _, a := range b.Accepts {
		if !errors.Is(a.Err, relay.ErrUnavailable) {
			t.Errorf("an accept gave %v", a.Err)
		}
	}
	for range 2 { // the second time all were done before, and that passes too
		s.Apply(t.Context(), &relay.Batch{Settles: settles[:3]})
		for _, op := range settles[:3] {
			if op.Err != nil {
				t.Error(op.Err)
			}
		}
	}
	s.Apply(t.Context(), &relay.Batch{Settles: settles[3:]})
	for _, op := range settles[3:] {
		if op.Err != nil {
			t.Error(op.Err)
		}
	}
	if l := lease(t, s, "two", 9); len(l.Leased) != 2 {
		t.Errorf("leased %d", len(l.Leased))
	}
}

// A batch comes to the same as its operations one after the other.
func TestABatchIsItsOperations(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			together, each := newTwin(t, "together", seed), newTwin(t, "each", seed)
			for range 12 {
				together.step(func(b *relay.Batch) { together.Apply(t.Context(), b) })
				each.step(func(b *relay.Batch) {
					for i := range b.Settles {
						each.Apply(t.Context(), &relay.Batch{Settles: b.Settles[i : i+1]})
					}
					for i := range b.Accepts {
						each.Apply(t.Context(), &relay.Batch{Accepts: b.Accepts[i : i+1]})
					}
				})
				for i, line := range together.said {
					if i >= len(each.said) || line != each.said[i] {
						t.Fatalf("line %d differs. Together:\n%s\neach:\n%s", i, strings.Join(together.said, "\n"), strings.Join(each.said, "\n"))
					}
				}
			}
		})
	}
}

// twin does to a store what another twin of the same seed does to another one.
type twin struct {
	*redisstore.Store
	t       *testing.T
	r       *rand.Rand
	id      func() string
	accepts []*relay.Accept
	held    []*relay.Leased
	said    []string // what came of the latest step
}

func newTwin(t *testing.T, name string, seed uint64) *twin {
	n := 0
	return &twin{
		Store: open(t, func(o *redisstore.Options) { o.KeyPrefix = strings.ReplaceAll(t.Name(), "/", "-") + name }),
		t:     t, r: rand.New(rand.NewPCG(seed, 7)),
		id: func() string { n++; return fmt.Sprintf("01HZZZZZZZZZZZZZZZZZ%06d", n) },
	}
}

// accept makes an accept: of a new event, or one that has to do with an earlier one.
func (w *twin) accept() *relay.Accept {
	n := w.r.IntN(1 << 30)
	e := &relay.Event{
		ID: w.id(), Source: "vocals", TaskID: fmt.Sprint("task-", w.r.IntN(4)), Stage: "complete", Origin: relay.OriginCallback,
		ReceivedAt: time.UnixMicro(1e15), Headers: relay.Headers{"content-type": "application/json"}, Body: fmt.Append(nil, n),
	}
	copy(e.Key[:], fmt.Append(nil, "key ", n))
	copy(e.Fingerprint[:], fmt.Append(nil, "print ", n))
	a := &relay.Accept{Event: e, Window: time.Hour}
	for i, d := range []string{"one", "two", "ordered", relay.ArchiveName} {
		if w.r.IntN(3) > 0 {
			n := relay.NewDelivery{Destination: d, Ordered: d == "ordered", LeaseFor: time.Duration(w.r.IntN(2)) * time.Hour}
			if i == 1 {
				n.Behind = relay.ArchiveName
			}
			a.Deliveries = append(a.Deliveries, n)
		}
	}
	if len(w.accepts) == 0 {
		return a
	}
	other := w.accepts[w.r.IntN(len(w.accepts))]
	switch w.r.IntN(8) {
	case 0: // a duplicate
		e.Key, e.Fingerprint = other.Event.Key, other.Event.Fingerprint
	case 1: // a conflict
		e.Key = other.Event.Key
	case 2: // a conflict that is an event
		e.Key, a.Separate = other.Event.Key, true
	case 3: // the same once more
		again := *other
		return &again
	case 4: // after a try in doubt
		again := *other
		again.Again = true
		return &again
	}
	return a
}

func (w *twin) step(apply func(*relay.Batch)) {
	var b relay.Batch
	for range w.r.IntN(12) {
		if len(w.held) == 0 {
			break
		}
		op := &relay.Settle{
			Leased: w.held[w.r.IntN(len(w.held))], Outcome: relay.OutcomeDelivered, Used: w.r.IntN(2) == 0, Delay: time.Duration(w.r.IntN(2)) * time.Hour,
			Attempt: &relay.Attempt{At: time.UnixMicro(1e15), Status: 200},
		}
		if w.r.IntN(2) == 0 {
			op.Outcome = relay.Outcome(1 + w.r.IntN(4))
		}
		if op.Outcome == relay.OutcomeRelease {
			op.Attempt = nil
		}
		if op.Leased.Destination == relay.ArchiveName && w.r.IntN(2) == 0 {
			op.Files = []relay.File{{Field: "a"}}
		}
		b.Settles = append(b.Settles, op)
	}
	for range w.r.IntN(12) {
		a := w.accept()
		b.Accepts, w.accepts = append(b.Accepts, a), append(w.accepts, a)
	}
	apply(&b)

	w.said = nil
	say := func(format string, args ...any) { w.said = append(w.said, fmt.Sprintf(format, args...)) }
	for _, op := range b.Settles {
		slices.Sort(op.Freed)
		say("settle %s %s %v: %v %v %v", op.Leased.Event.ID, op.Leased.Destination, op.Outcome, op.Unblocked, op.Freed, op.Err)
	}
	for _, a := range b.Accepts {
		say("accept %s: %v %s %q %v", a.Event.ID, a.Result, a.FirstID, a.ConflictWith, a.Err)
		for _, l := range a.Leased {
			say("  leased %s, awaited by %v", l.Destination, l.Awaiting)
			w.held = append(w.held, l)
		}
	}
	for _, d := range []string{"one", "two", "ordered", relay.ArchiveName} {
		l := lease(w.t, w.Store, d, w.r.IntN(4)+1)
		for _, d := range l.Leased {
			say("leased %s %s: %d tries, %d used, files %v", d.Event.ID, d.Destination, d.Tries, d.Used, d.Files)
			w.held = append(w.held, d)
		}
	}
	w.Refresh()
	for _, c := range w.Counts() {
		say("%s: %d pending, %d in flight, %d delivered, %d dead", c.Destination, c.Pending, c.InFlight, c.Delivered, c.Dead)
	}
	events, _, err := w.Events(w.t.Context(), relay.EventFilter{Limit: 100})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		say("%s: %s, %d duplicates, %d conflicts", e.ID, e.TaskID, e.Duplicates, e.Conflicts)
		for _, d := range e.Deliveries {
			say("  %s %v after %d", d.Destination, d.State, d.Tries)
		}
	}
}
