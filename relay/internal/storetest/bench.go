package storetest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

const (
	source  = "vocals"
	billing = "billing"
	search  = "search"

	window   = 24 * time.Hour
	leaseFor = 45 * time.Second
	// slack is the time that a clock which runs by itself may gain between two steps of a test.
	slack = 15 * time.Second
)

// bench is a harness with the steps that tests are made of. A step that cannot be done ends the test.
type bench struct {
	*Harness
	t T
}

func (b *bench) ctx() context.Context { return b.t.Context() }

// must ends the test if err is not nil.
func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

var made atomic.Int64

// newEvent makes an event that no other is like.
func newEvent(task string) *relay.Event {
	n := made.Add(1)
	id := ulid.Make().String()
	return &relay.Event{
		ID: id, Source: source, TaskID: task, Stage: "complete", Code: "200",
		Key: sha256.Sum256([]byte(id)), Fingerprint: sha256.Sum256([]byte("first")),
		Origin:     relay.OriginCallback,
		ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC).Add(time.Duration(n) * time.Second),
		Headers:    relay.Headers{"content-type": "application/json", "x-number": fmt.Sprint(n)},
		Body:       fmt.Appendf(nil, `{"task_id":%q, "n":%d,  "text":"caf\u00e9 \x00"}`, task, n),
	}
}

// repeated is the same callback once more, as a sender that saw no answer sends it.
func repeated(ev *relay.Event) *relay.Event {
	again := *ev
	again.ID, again.Seq = ulid.Make().String(), 0
	again.ReceivedAt = ev.ReceivedAt.Add(time.Minute)
	return &again
}

// conflicting is a callback of the same key that says something else: n tells one such from another.
func conflicting(ev *relay.Event, n int) *relay.Event {
	c := repeated(ev)
	c.Fingerprint = sha256.Sum256(fmt.Appendf(nil, "other %d", n))
	c.Body = fmt.Appendf(nil, `{"other":%d}`, n)
	c.Headers = relay.Headers{"content-type": "application/json; variant", "x-variant": fmt.Sprint(n)}
	return c
}

// inDoubt is the very same event, as the engine applies it again after a timeout.
func inDoubt(ev *relay.Event) *relay.Event {
	again := *ev
	again.Seq = 0
	return &again
}

// to makes deliveries that ask for nothing.
func to(destinations ...string) []relay.NewDelivery {
	var ds []relay.NewDelivery
	for _, d := range destinations {
		ds = append(ds, relay.NewDelivery{Destination: d})
	}
	return ds
}

// ordered makes deliveries that keep their task's order.
func ordered(destinations ...string) []relay.NewDelivery {
	ds := to(destinations...)
	for i := range ds {
		ds[i].Ordered = true
	}
	return ds
}

// apply applies a batch whose every operation must succeed.
func (b *bench) apply(batch *relay.Batch) {
	b.t.Helper()
	b.Store.Apply(b.ctx(), batch)
	for _, op := range batch.Settles {
		b.must(op.Err)
	}
	for _, op := range batch.Accepts {
		b.must(op.Err)
	}
	for _, op := range batch.Leases {
		b.must(op.Err)
	}
}

// put applies one accept.
func (b *bench) put(ev *relay.Event, deliveries ...relay.NewDelivery) *relay.Accept {
	b.t.Helper()
	op := &relay.Accept{Event: ev, Window: window, Deliveries: deliveries}
	b.apply(&relay.Batch{Accepts: []*relay.Accept{op}})
	return op
}

// wantResult checks what became of an accept.
func (b *bench) wantResult(op *relay.Accept, want relay.Result, first *relay.Event) {
	b.t.Helper()
	if op.Result != want || op.FirstID != first.ID {
		b.t.Fatalf("result %d with the first id %s, want %d with %s", op.Result, op.FirstID, want, first.ID)
	}
}

// wantNotFound checks that an error names what was not found, in the same words with every store.
func (b *bench) wantNotFound(err error, what string) {
	b.t.Helper()
	if !errors.Is(err, relay.ErrNotFound) || err.Error() != what+": not found" {
		b.t.Errorf("the error is %v, want %s: not found", err, what)
	}
}

// accept stores a new event of a task.
func (b *bench) accept(task string, destinations ...string) *relay.Event {
	b.t.Helper()
	return b.acceptNew(task, to(destinations...)...)
}

func (b *bench) acceptNew(task string, deliveries ...relay.NewDelivery) *relay.Event {
	b.t.Helper()
	ev := newEvent(task)
	b.wantResult(b.put(ev, deliveries...), relay.Accepted, ev)
	return ev
}

// acceptMany stores n events in batches, the first one first.
func (b *bench) acceptMany(n int, deliveries ...relay.NewDelivery) []*relay.Event {
	b.t.Helper()
	var events []*relay.Event
	for len(events) < n {
		batch := &relay.Batch{}
		for len(events) < n && len(batch.Accepts) < 100 {
			ev := newEvent(fmt.Sprintf("task-%d", len(events)))
			events = append(events, ev)
			batch.Accepts = append(batch.Accepts, &relay.Accept{Event: ev, Window: window, Deliveries: deliveries})
		}
		b.apply(batch)
		for i, op := range batch.Accepts {
			b.wantResult(op, relay.Accepted, batch.Accepts[i].Event)
		}
	}
	return events
}

// ask applies one lease.
func (b *bench) ask(op relay.Lease) *relay.Lease {
	b.t.Helper()
	op.Source, op.For = source, leaseFor
	b.apply(&relay.Batch{Leases: []*relay.Lease{&op}})
	if b.Parted { // by the order of acceptance, which a test can go on with
		slices.SortStableFunc(op.Leased, func(x, y *relay.Leased) int { return cmp.Compare(x.Event.Seq, y.Event.Seq) })
	}
	return &op
}

// lease leases up to most due deliveries.
func (b *bench) lease(destination string, most int) []*relay.Leased {
	b.t.Helper()
	return b.ask(relay.Lease{Destination: destination, Max: most}).Leased
}

// leaseOne leases the delivery of ev, which must be the next one.
func (b *bench) leaseOne(destination string, ev *relay.Event) *relay.Leased {
	b.t.Helper()
	got := b.lease(destination, 1)
	b.wantLeased(got, ev)
	return got[0]
}

// leaseAll leases what is due until nothing more is.
func (b *bench) leaseAll(destination string) []*relay.Leased {
	b.t.Helper()
	var all []*relay.Leased
	for {
		got := b.lease(destination, 200)
		if len(got) == 0 {
			return all
		}
		all = append(all, got...)
	}
}

func (b *bench) wantLeased(got []*relay.Leased, want ...*relay.Event) {
	b.t.Helper()
	var gotIDs, wantIDs []string
	for _, l := range got {
		gotIDs = append(gotIDs, l.Event.ID)
	}
	for _, ev := range want {
		wantIDs = append(wantIDs, ev.ID)
	}
	if !b.same(gotIDs, wantIDs) {
		b.t.Fatalf("leased %v, want %v", gotIDs, wantIDs)
	}
}

// same reports whether two lists of ids are the same, in any order where the store keeps none.
func (b *bench) same(x, y []string) bool {
	if b.Parted {
		x, y = slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	}
	return slices.Equal(x, y)
}

// attempt is one that a destination answered.
func attempt(status int) *relay.Attempt {
	return &relay.Attempt{
		At: time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC), Duration: 1234 * time.Millisecond,
		Status: status, Response: fmt.Appendf(nil, "answer \x00 %d", status),
	}
}

// settleAll settles leases alike, each with an attempt, in batches.
func (b *bench) settleAll(outcome relay.Outcome, leased ...*relay.Leased) {
	b.t.Helper()
	status := 500
	if outcome == relay.OutcomeDelivered {
		status = 200
	}
	for len(leased) > 0 {
		batch := &relay.Batch{}
		for _, l := range leased[:min(100, len(leased))] {
			batch.Settles = append(batch.Settles, &relay.Settle{Leased: l, Outcome: outcome, Used: true, Attempt: attempt(status)})
		}
		b.apply(batch)
		leased = leased[len(batch.Settles):]
	}
}

// settle applies one settle, which must be taken.
func (b *bench) settle(op relay.Settle) *relay.Settle {
	b.t.Helper()
	b.apply(&relay.Batch{Settles: []*relay.Settle{&op}})
	return &op
}

// trySettle applies one settle, which may be refused.
func (b *bench) trySettle(op relay.Settle) error {
	b.Store.Apply(b.ctx(), &relay.Batch{Settles: []*relay.Settle{&op}})
	return op.Err
}

// kill accepts an event and makes its delivery a dead letter.
func (b *bench) kill(task, destination string) *relay.Event {
	b.t.Helper()
	ev := b.accept(task, destination)
	b.settleAll(relay.OutcomeDead, b.leaseOne(destination, ev))
	return ev
}

// killMany makes n dead letters of billing.
func (b *bench) killMany(n int) []*relay.Event {
	b.t.Helper()
	events := b.acceptMany(n, to(billing)...)
	leased := b.leaseAll(billing)
	if len(leased) != n {
		b.t.Fatalf("leased %d of %d", len(leased), n)
	}
	b.settleAll(relay.OutcomeDead, leased...)
	return events
}

// record reads an event.
func (b *bench) record(ev *relay.Event) *relay.EventRecord {
	b.t.Helper()
	r, err := b.Store.Event(b.ctx(), ev.ID)
	b.must(err)
	return r
}

// delivery reads one delivery of an event.
func (b *bench) delivery(ev *relay.Event, destination string) relay.DeliveryRecord {
	b.t.Helper()
	return b.deliveryOf(b.record(ev), destination)
}

func (b *bench) deliveryOf(r *relay.EventRecord, destination string) relay.DeliveryRecord {
	b.t.Helper()
	for _, d := range r.Deliveries {
		if d.Destination == destination {
			return d
		}
	}
	b.t.Fatalf("event %s has no delivery to %s", r.ID, destination)
	return relay.DeliveryRecord{}
}

func (b *bench) wantState(ev *relay.Event, destination string, want relay.State) {
	b.t.Helper()
	if got := b.delivery(ev, destination).State; got != want {
		b.t.Fatalf("delivery to %s is %s, want %s", destination, got, want)
	}
}

// count returns the tallies of a destination; none are zero.
func (b *bench) count(destination string) relay.Count {
	return b.countOf(source, destination)
}

func (b *bench) countOf(source, destination string) relay.Count {
	if b.Refresh != nil {
		b.Refresh(b.Store)
	}
	for _, c := range b.Store.Counts() {
		if c.Source == source && c.Destination == destination {
			return c
		}
	}
	return relay.Count{Source: source, Destination: destination}
}

// wantCounts checks the tallies of a destination of the usual source.
func (b *bench) wantCounts(destination string, pending, inFlight, delivered, dead int64) {
	b.t.Helper()
	c := b.count(destination)
	if c.Pending != pending || c.InFlight != inFlight || c.Delivered != delivered || c.Dead != dead {
		b.t.Fatalf("%s counts %d pending, %d in flight, %d delivered, %d dead; want %d, %d, %d, %d",
			destination, c.Pending, c.InFlight, c.Delivered, c.Dead, pending, inFlight, delivered, dead)
	}
}

// wantWithin checks a time that lies ahead: a clock that runs may have used up some of it.
func (b *bench) wantWithin(what string, got, want time.Duration) {
	b.t.Helper()
	if got > want || got <= want-slack {
		b.t.Fatalf("%s is %v, want %v", what, got, want)
	}
}
