package sqlitestore

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// packedStore is a store whose accepts are leased at once.
type packedStore struct {
	*Store
	t    *testing.T
	path string
}

func newPackedStore(t *testing.T) *packedStore {
	path := filepath.Join(t.TempDir(), "relay.db")
	p := &packedStore{openUntended(t, path), t, path}
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

// accept accepts an event whose deliveries are leased at once: to one, two and three, unless others are named.
func (p *packedStore) accept(destinations ...string) *relay.Accept {
	p.t.Helper()
	if len(destinations) == 0 {
		destinations = []string{"one", "two", "three"}
	}
	id := ulid.Make()
	a := &relay.Accept{Window: time.Hour, Event: &relay.Event{
		ID: id.String(), Source: "vocals", TaskID: "task", Key: sha256.Sum256(id[:]), ReceivedAt: packedAttempt.At, Body: []byte("{}"),
	}}
	for _, name := range destinations {
		a.Deliveries = append(a.Deliveries, relay.NewDelivery{Destination: name, LeaseFor: time.Minute})
	}
	p.Apply(p.t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
	if a.Err != nil || len(a.Leased) != len(destinations) {
		p.t.Fatalf("%d are leased, %v", len(a.Leased), a.Err)
	}
	return a
}

func (p *packedStore) settle(settles ...*relay.Settle) {
	p.t.Helper()
	p.Apply(p.t.Context(), &relay.Batch{Settles: settles})
	for _, op := range settles {
		must(p.t, op.Err)
	}
}

var packedAttempt = relay.Attempt{At: time.UnixMilli(1_700_000_000_123).UTC(), Duration: 1234567 * time.Microsecond, Status: 204}

func deliveredBy(l *relay.Leased) *relay.Settle {
	a := packedAttempt
	return &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Used: true, Attempt: &a}
}

// rows are the rows of a table.
func (p *packedStore) rows(table string) int64 {
	p.t.Helper()
	n, err := p.db.Writer.Stmt("SELECT count(*) FROM " + table).Int64()
	must(p.t, err)
	return n
}

func (p *packedStore) wantRows(when string, packs, deliveries, attempts int64) {
	p.t.Helper()
	got := []int64{p.rows("packed"), p.rows("delivery"), p.rows("attempt")}
	if want := []int64{packs, deliveries, attempts}; !slices.Equal(got, want) {
		p.t.Errorf("%s there are %v packs, deliveries and attempts, want %v", when, got, want)
	}
}

// crash opens the file as it is when the process is killed.
func (p *packedStore) crash() {
	p.t.Helper()
	must(p.t, p.db.Close())
	p.Store = openUntended(p.t, p.path)
}

func (p *packedStore) states(id string) string {
	p.t.Helper()
	r, err := p.Event(p.t.Context(), id)
	must(p.t, err)
	s := ""
	for _, d := range r.Deliveries {
		if d.Tries != len(d.Attempts) {
			p.t.Errorf("%d tries have %d attempts", d.Tries, len(d.Attempts))
		}
		s += fmt.Sprintf("%s %s %d; ", d.Destination, d.State, d.Tries)
	}
	return s
}

func (p *packedStore) want(when, id, states string) {
	p.t.Helper()
	if got := p.states(id); got != states {
		p.t.Errorf("%s the deliveries are %q, want %q", when, got, states)
	}
}

// A pack of deliveries that are made at once is one row, however many destinations and settles there are, and shows like any other.
func TestPackDelivered(t *testing.T) {
	p := newPackedStore(t)
	a := p.accept()
	id := a.Event.ID
	p.want("leased", id, "one in_flight 0; three in_flight 0; two in_flight 0; ")
	p.settle(deliveredBy(a.Leased[0]))
	p.settle(deliveredBy(a.Leased[1]), deliveredBy(a.Leased[2]))
	p.wantRows("delivered", 1, 0, 0)
	must(t, p.transact(nil, p.clockChange)) // a machine's clock that is set back must not matter
	for _, when := range []string{"delivered", "after a crash"} {
		p.want(when, id, "one delivered 1; three delivered 1; two delivered 1; ")
		r, err := p.Event(t.Context(), id)
		must(t, err)
		if got := r.Deliveries[1].Attempts[0]; got.At != packedAttempt.At || got.Duration != packedAttempt.Duration || got.Status != 204 {
			t.Errorf("%s the attempt is %+v", when, got)
		}
		list, _, err := p.Events(t.Context(), relay.EventFilter{State: relay.StateDelivered, Destination: "two"})
		if err != nil || len(list) != 1 || len(list[0].Deliveries[0].Attempts) > 0 {
			t.Errorf("%s the list is %+v, %v", when, list, err)
		}
		p.crash()
	}
	for _, c := range p.Counts() {
		if c.Delivered != 1 || c.Pending+c.InFlight+c.Dead > 0 {
			t.Errorf("the counts are %+v", c)
		}
	}
	r, err := p.Purge(t.Context(), relay.PurgePolicy{})
	if err != nil || r.Events != 1 || len(r.Deliveries) != 3 {
		t.Errorf("purged %+v, %v", r, err)
	}
	p.wantRows("purged", 0, 0, 0)
}

// Whatever else becomes of a delivery, it has a row of its own from then on, and the others stay where they are.
func TestUnpack(t *testing.T) {
	p := newPackedStore(t)
	a := p.accept()
	id := a.Event.ID
	failed := relay.Attempt{At: packedAttempt.At, Status: 500, Response: []byte("no")}
	answered := deliveredBy(a.Leased[2])
	answered.Attempt.Response = []byte("thanks")
	p.settle(&relay.Settle{Leased: a.Leased[0], Outcome: relay.OutcomeRetry, Delay: time.Hour, Attempt: &failed, Used: true}, deliveredBy(a.Leased[1]), answered)
	p.wantRows("after a retry", 1, 1, 2)
	p.want("after a retry", id, "one pending 1; three delivered 1; two delivered 1; ")
	if r, err := p.Event(t.Context(), id); err != nil || string(r.Deliveries[1].Attempts[0].Response) != "thanks" {
		t.Errorf("the event is %+v, %v", r, err)
	}
	replayed, skipped, err := p.Replay(t.Context(), id, []string{"one", "two", "three", "four"}, 0)
	if replayed != 3 || skipped != 1 || err != nil {
		t.Errorf("%d are replayed, %d skipped, %v", replayed, skipped, err)
	}
	p.wantRows("replayed", 0, 4, 3)
	p.want("replayed", id, "four pending 0; one pending 1; three pending 1; two pending 1; ")

	a = p.accept("five")
	p.settle(deliveredBy(a.Leased[0]))
	r, _, err := p.Reassign(t.Context(), "vocals", "five", "six", "")
	if err != nil || r.Moved != 1 || r.Left != 0 {
		t.Errorf("reassigned %+v, %v", r, err)
	}
	p.want("reassigned", a.Event.ID, "six delivered 1; ")
	a = p.accept("five")
	if r, _, err := p.Reassign(t.Context(), "vocals", "five", "six", ""); err != nil || r.Moved != 0 || r.Left != 1 {
		t.Errorf("reassigned %+v, %v", r, err)
	}
	p.settle(&relay.Settle{Leased: a.Leased[0], Outcome: relay.OutcomeDead, Attempt: &failed})
	p.want("dead", a.Event.ID, "five dead 1; ")
	if n, _, err := p.Discard(t.Context(), relay.Selection{}, ""); n != 1 || err != nil {
		t.Errorf("%d are discarded, %v", n, err)
	}
	p.crash()
	p.want("discarded", a.Event.ID, "")
}

// What was leased when the process was killed is due again, in its order, and what was delivered is not: also if the file
// was last looked after long before.
func TestPackCrash(t *testing.T) {
	p := newPackedStore(t)
	var ids []string
	for range 20 {
		a := p.accept()
		ids = append(ids, a.Event.ID)
		p.settle(deliveredBy(a.Leased[0]))
		if len(ids)%3 == 0 {
			p.settle(deliveredBy(a.Leased[1]))
		}
		if len(ids) == 10 {
			must(t, p.transact(nil, p.clockChange))
		}
	}
	for _, when := range []string{"after a crash", "after another"} {
		p.crash()
		for n, id := range ids {
			states := "one delivered 1; three pending 0; two pending 0; "
			if (n+1)%3 == 0 {
				states = "one delivered 1; three pending 0; two delivered 1; "
			}
			p.want(when, id, states)
		}
	}
	l := &relay.Lease{Source: "vocals", Destination: "three", Max: 100, For: time.Minute}
	none := &relay.Lease{Source: "vocals", Destination: "one", Max: 100, For: time.Minute}
	p.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l, none}})
	if l.Err != nil || len(l.Leased) != len(ids) || none.Err != nil || len(none.Leased) > 0 {
		t.Fatalf("%d and %d are leased, %v, %v", len(l.Leased), len(none.Leased), l.Err, none.Err)
	}
	for n, leased := range l.Leased {
		if leased.Event.ID != ids[n] {
			t.Errorf("leased %d is event %s", n, leased.Event.ID)
		}
	}
	var settles []*relay.Settle
	for _, leased := range l.Leased {
		settles = append(settles, deliveredBy(leased))
	}
	p.settle(settles...)
	if stale := p.held(); stale != p.newest+1 {
		t.Errorf("a start looks from event %d on, want %d", stale, p.newest+1)
	}
}

// What comes faster than it is delivered is queued in its packs, in order, and has rows once the queue is full: until none of
// those is left.
func TestQueue(t *testing.T) {
	p := newPackedStore(t)
	newAccept := func(leaseFor time.Duration) *relay.Accept {
		id := ulid.Make()
		return &relay.Accept{
			Window: time.Hour, Event: &relay.Event{ID: id.String(), Source: "vocals", Key: sha256.Sum256(id[:]), ReceivedAt: packedAttempt.At, Body: []byte("{}")},
			Deliveries: []relay.NewDelivery{{Destination: "one", LeaseFor: leaseFor}},
		}
	}
	one := func(leaseFor time.Duration) string {
		t.Helper()
		a := newAccept(leaseFor)
		p.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
		if a.Err != nil || len(a.Leased) > 0 {
			t.Fatalf("%d are leased, %v", len(a.Leased), a.Err)
		}
		return a.Event.ID
	}
	ids := []string{one(0)}
	for len(ids) < queued+5 {
		batch := &relay.Batch{}
		for range 100 {
			a := newAccept(time.Minute)
			batch.Accepts, ids = append(batch.Accepts, a), append(ids, a.Event.ID)
		}
		p.Apply(t.Context(), batch)
	}
	extra := int64(len(ids) - queued)
	p.wantRows("accepted", queued, extra, 0)
	lease := func(most int) (got []*relay.Leased) {
		t.Helper()
		l := &relay.Lease{Source: "vocals", Destination: "one", Max: most, For: time.Minute}
		p.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
		must(t, l.Err)
		for _, leased := range l.Leased {
			if leased.Event.ID != ids[0] {
				t.Fatalf("event %d is leased, want %s", leased.Event.Seq, ids[0])
			}
			ids = ids[1:]
		}
		return l.Leased
	}
	first := lease(queued - 10)
	ids = append(ids, one(0)) // behind the rows
	p.wantRows("leased in part", queued, extra+1, 0)
	p.want("leased", first[0].Event.ID, "one in_flight 0; ")
	p.want("queued", ids[0], "one pending 0; ")
	if replayed, skipped, err := p.Replay(t.Context(), ids[0], []string{"one"}, 0); replayed != 0 || skipped != 1 || err != nil {
		t.Errorf("what is queued is replayed %d times, %v", replayed, err)
	}
	var settles []*relay.Settle
	for _, l := range first {
		settles = append(settles, deliveredBy(l))
	}
	p.settle(settles...)
	if got := p.held(); got != int64(queued-10+1) {
		t.Errorf("the first event held is %d", got)
	}
	must(t, p.flushOld(p.newest))
	p.wantRows("flushed", queued-10, extra+11, 0)
	if rest := lease(3000); int64(len(rest)) != extra+11 || len(ids) > 0 {
		t.Errorf("%d are leased at the end, and %d left", len(rest), len(ids))
	}
	ids = append(ids, one(0))
	p.wantRows("queued again", queued-10+1, extra+11, 0)
	p.crash() // which voids all leases
	l := &relay.Lease{Source: "vocals", Destination: "one", Max: 1000, For: time.Minute}
	p.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
	if l.Err != nil || int64(len(l.Leased)) != extra+12 || l.Leased[extra+11].Event.ID != ids[0] {
		t.Errorf("%d are leased after a crash, %v", len(l.Leased), l.Err)
	}
}

// An operator's work finds what is queued.
func TestQueueOperate(t *testing.T) {
	p := newPackedStore(t)
	for _, name := range []string{"one", "two", "three"} {
		must(t, p.Pause(t.Context(), "vocals", name, true))
	}
	id := ulid.Make()
	a := &relay.Accept{Window: time.Hour, Event: &relay.Event{ID: id.String(), Source: "vocals", Key: sha256.Sum256(id[:]), Body: []byte("{}")}}
	for _, name := range []string{"one", "two", "three"} {
		a.Deliveries = append(a.Deliveries, relay.NewDelivery{Destination: name, LeaseFor: time.Minute})
	}
	p.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{a}})
	p.wantRows("accepted", 1, 0, 0)
	if r, _, err := p.Reassign(t.Context(), "vocals", "one", "four", ""); err != nil || r.Moved != 1 {
		t.Errorf("reassigned %+v, %v", r, err)
	}
	if n, _, err := p.Discard(t.Context(), relay.Selection{Source: "vocals", Destination: "two", Orphaned: true}, ""); n != 1 || err != nil {
		t.Errorf("%d are discarded, %v", n, err)
	}
	if dead, err := p.Expire(t.Context(), "vocals", "three", -time.Minute); len(dead) != 1 || err != nil {
		t.Errorf("%d are expired, %v", len(dead), err)
	}
	p.want("at the end", id.String(), "four pending 0; three dead 0; ")
}

func TestPackEntry(t *testing.T) {
	var p pack
	entries := []packEntry{
		{destination: 1},
		{
			destination: 1<<32 - 1, flags: packDelivered | packTried | packUsed | packRow, status: 1<<12 - 1,
			duration: (1<<32 - 1) * time.Microsecond, at: 1<<40 - 1, settled: 1<<40 - 1,
		},
		{destination: 7, flags: packDelivered | packTried, status: 200, duration: time.Microsecond, at: 1, settled: 2},
	}
	for _, e := range entries {
		p = p.append(packEntry{destination: e.destination})
	}
	for i, e := range entries {
		if p.find(e.destination) != i {
			t.Errorf("entry %d is at %d", i, p.find(e.destination))
		}
		p.replace(i, e)
	}
	for i, e := range entries {
		if got := p.entry(i); got != e {
			t.Errorf("entry %d is %+v, want %+v", i, got, e)
		}
	}
	if p = p.without(1); p.len() != 2 || p.find(1<<32-1) >= 0 || p.entry(1) != entries[2] {
		t.Errorf("without one the pack is %v", p)
	}
}

// An attempt for which a pack has no room is shown as it was all the same.
func TestAttemptsBeyondAPack(t *testing.T) {
	for name, a := range map[string]relay.Attempt{
		"before its epoch":   {At: time.UnixMilli(packEpoch - 1).UTC(), Duration: time.Second, Status: 200},
		"long after it":      {At: time.UnixMilli(packEpoch + 1<<40).UTC(), Duration: time.Second, Status: 200},
		"of two hours":       {At: packedAttempt.At, Duration: 2 * time.Hour, Status: 200},
		"with a high status": {At: packedAttempt.At, Duration: time.Second, Status: 1 << 12},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPackedStore(t)
			accepted := p.accept("one")
			p.settle(&relay.Settle{Leased: accepted.Leased[0], Outcome: relay.OutcomeDelivered, Attempt: &a})
			p.wantRows("delivered", 1, 0, 1)
			r, err := p.Event(t.Context(), accepted.Event.ID)
			must(t, err)
			if got := r.Deliveries[0].Attempts; len(got) != 1 || got[0].At != a.At || got[0].Duration != a.Duration || got[0].Status != a.Status {
				t.Errorf("the attempts are %+v, want %+v", got, a)
			}
		})
	}
}
