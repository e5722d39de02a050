package redisstore_test

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

var number atomic.Int64

// newAccept makes an accept of a new event of source vocals.
func newAccept(destinations ...string) *relay.Accept {
	n := number.Add(1)
	e := &relay.Event{
		ID: ulid.MustNew(ulid.Now(), rand.Reader).String(), Source: "vocals", TaskID: fmt.Sprint("task-", n), Stage: "complete",
		Code: "200", Key: sha256.Sum256(fmt.Append(nil, "key", n)), Fingerprint: sha256.Sum256(fmt.Append(nil, "fp", n)),
		Origin: relay.OriginCallback, ReceivedAt: time.Now(), Headers: relay.Headers{"content-type": "application/json"},
		Body: fmt.Appendf(nil, `{"n":%d}`, n),
	}
	a := &relay.Accept{Event: e, Window: time.Hour}
	for _, d := range destinations {
		a.Deliveries = append(a.Deliveries, relay.NewDelivery{Destination: d})
	}
	return a
}

// again makes an accept of the same key, as another callback would.
func again(a *relay.Accept) *relay.Accept {
	e := *a.Event
	e.ID = ulid.MustNew(ulid.Now(), rand.Reader).String()
	return &relay.Accept{Event: &e, Window: a.Window, Deliveries: a.Deliveries}
}

func accept(t testing.TB, s *redisstore.Store, accepts ...*relay.Accept) {
	t.Helper()
	s.Apply(t.Context(), &relay.Batch{Accepts: accepts})
	for _, a := range accepts {
		if a.Err != nil {
			t.Fatal(a.Err)
		}
	}
}

func lease(t testing.TB, s *redisstore.Store, destination string, most int) *relay.Lease {
	t.Helper()
	l := &relay.Lease{Source: "vocals", Destination: destination, Max: most, For: time.Minute}
	s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
	if l.Err != nil {
		t.Fatal(l.Err)
	}
	return l
}

func settle(t testing.TB, s *redisstore.Store, d *relay.Leased, outcome relay.Outcome) error {
	t.Helper()
	op := &relay.Settle{Leased: d, Outcome: outcome, Used: true, Attempt: &relay.Attempt{At: time.Now(), Status: 500, Error: "bad"}}
	s.Apply(t.Context(), &relay.Batch{Settles: []*relay.Settle{op}})
	return op.Err
}

// An attempt that is settled while its event is read shows as a whole, or not at all.
func TestAnEventIsReadWhole(t *testing.T) {
	for _, command := range []string{"zscore", "hmget", "hgetall"} {
		t.Run(command, func(t *testing.T) {
			reader, other := open(t), open(t)
			a := newAccept("one")
			a.Deliveries[0].LeaseFor = time.Minute
			accept(t, other, a)
			if err := settle(t, other, a.Leased[0], relay.OutcomeRetry); err != nil {
				t.Fatal(err)
			}
			d := lease(t, other, "one", 1).Leased[0]
			settled := false
			reader.After(command, sync.OnceFunc(func() {
				settled = true
				if err := settle(t, other, d, relay.OutcomeDelivered); err != nil {
					t.Error(err)
				}
			}))
			rec, err := reader.Event(t.Context(), a.Event.ID)
			if err != nil || len(rec.Deliveries) != 1 || len(rec.Deliveries[0].Attempts) != rec.Deliveries[0].Tries {
				t.Errorf("%+v, %v", rec, err)
			}
			if !settled {
				t.Error("the event was read without that command")
			}
		})
	}
}

func TestTheWayOfADelivery(t *testing.T) {
	s := open(t)
	a := newAccept("one", "two")
	a.Deliveries[0].LeaseFor = time.Minute
	accept(t, s, a)
	if a.Result != relay.Accepted || len(a.Leased) != 1 || a.Event.Seq == 0 {
		t.Fatalf("accept gave %+v", a)
	}
	b := again(a)
	accept(t, s, b)
	if b.Result != relay.Duplicate || b.FirstID != a.Event.ID {
		t.Fatalf("the same key again gave %v %s", b.Result, b.FirstID)
	}
	if err := settle(t, s, a.Leased[0], relay.OutcomeDelivered); err != nil {
		t.Fatal(err)
	}
	l := lease(t, s, "two", 5)
	if len(l.Leased) != 1 || string(l.Leased[0].Event.Body) != string(a.Event.Body) {
		t.Fatalf("lease gave %+v", l)
	}
	if err := settle(t, s, l.Leased[0], relay.OutcomeDead); err != nil {
		t.Fatal(err)
	}
	rec, err := s.Event(t.Context(), a.Event.ID)
	if err != nil {
		t.Fatal(err)
	}
	if rec.State() != relay.StateDead || rec.Duplicates != 1 || len(rec.Deliveries) != 2 || len(rec.Deliveries[1].Attempts) != 1 {
		t.Fatalf("event is %+v", rec)
	}
	letters, _, err := s.DeadLetters(t.Context(), relay.Selection{}, 10, "")
	if err != nil || len(letters) != 1 || letters[0].LastError != "bad" {
		t.Fatalf("dead letters are %+v, %v", letters, err)
	}
	if n, _, err := s.Redrive(t.Context(), relay.Selection{Source: "vocals"}, relay.Pace{}, ""); n != 1 || err != nil {
		t.Fatalf("redrive gave %d, %v", n, err)
	}
	l = lease(t, s, "two", 5)
	if len(l.Leased) != 1 || l.Leased[0].Replay != 1 || l.Leased[0].Used != 0 {
		t.Fatalf("lease after redrive gave %+v", l)
	}
	if err := settle(t, s, l.Leased[0], relay.OutcomeDelivered); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Counts() {
		if c.Pending != 0 || c.InFlight != 0 || c.Delivered != 1 || c.Dead != 0 {
			t.Errorf("counts are %+v", c)
		}
	}
	res, err := s.Purge(t.Context(), relay.PurgePolicy{DefaultWindow: time.Hour})
	if err != nil || res.Events != 1 {
		t.Fatalf("purge gave %+v, %v", res, err)
	}
	if _, err := s.Event(t.Context(), a.Event.ID); !errors.Is(err, relay.ErrNotFound) {
		t.Fatalf("a purged event gives %v", err)
	}
	c := again(a)
	if accept(t, s, c); c.Result != relay.Duplicate {
		t.Fatalf("the dedupe record went with its event: %v", c.Result)
	}
}

// A settle whose answer was lost is sent again, and is no lost lease.
func TestASettleMayBeRepeated(t *testing.T) {
	s := open(t)
	a := newAccept("one")
	a.Deliveries[0].LeaseFor = time.Minute
	accept(t, s, a)
	for range 2 {
		if err := settle(t, s, a.Leased[0], relay.OutcomeRetry); err != nil {
			t.Fatal(err)
		}
	}
	l := lease(t, s, "one", 1)
	if len(l.Leased) != 1 || l.Leased[0].Tries != 1 {
		t.Fatalf("lease gave %+v", l)
	}
	if err := settle(t, s, a.Leased[0], relay.OutcomeDead); !errors.Is(err, relay.ErrLeaseLost) {
		t.Fatalf("a stale settle gave %v", err)
	}
}
