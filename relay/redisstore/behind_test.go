package redisstore_test

import (
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// newBehind makes an accept whose delivery to one waits for that to the archive.
func newBehind() *relay.Accept {
	a := newAccept(relay.ArchiveName, "one")
	a.Deliveries[1].Behind = relay.ArchiveName
	return a
}

// What a settle frees is known to the other gateways at once.
func TestOtherGatewaysLearnWhatWasFreed(t *testing.T) {
	a, b := open(t), open(t)
	awaitListeners(t, 2)
	accept(t, a, newBehind())
	l := lease(t, a, relay.ArchiveName, 1)
	for len(b.Wakeups()) > 0 {
		<-b.Wakeups()
	}
	s := &relay.Settle{Leased: l.Leased[0], Outcome: relay.OutcomeDelivered}
	a.Apply(t.Context(), &relay.Batch{Settles: []*relay.Settle{s}})
	if s.Err != nil || len(s.Freed) != 1 {
		t.Fatalf("freed %v, error %v", s.Freed, s.Err)
	}
	awaitWake(t, b, relay.DestinationName{Source: "vocals", Destination: "one"})
	// The same settle, whose answer was lost, says it again.
	a.Apply(t.Context(), &relay.Batch{Settles: []*relay.Settle{s}})
	if s.Err != nil || len(s.Freed) != 1 {
		t.Fatalf("freed %v, error %v", s.Freed, s.Err)
	}
}

// What waits for a delivery whose event is gone does not wait for ever: it becomes a dead letter like that one.
func TestNothingWaitsForWhatIsGone(t *testing.T) {
	s := open(t)
	a := newBehind()
	accept(t, s, a)
	server.Do(t, "DEL", t.Name()+":{vocals}:v:"+a.Event.ID)
	if l := lease(t, s, relay.ArchiveName, 1); len(l.Dead) != 1 {
		t.Fatalf("dead %v", l.Dead)
	}
	if l := lease(t, s, "one", 1); len(l.Dead)+len(l.Leased) != 0 {
		t.Fatalf("leased %v, dead %v", l.Leased, l.Dead)
	}
	s.Refresh()
	awaitWake(t, s, relay.DestinationName{Source: "vocals", Destination: "one"})
	if l := lease(t, s, "one", 1); len(l.Dead) != 1 {
		t.Fatalf("dead %v", l.Dead)
	}
}

// At maxmemory files are kept all the same, and what waits for them is freed.
func TestMaxMemoryFrees(t *testing.T) {
	full := redistest.Start(t)
	s := open(t, func(o *redisstore.Options) { o.Addresses = []string{full.Addr} })
	a := newBehind()
	accept(t, s, a)
	l := lease(t, s, relay.ArchiveName, 1)
	full.Do(t, "CONFIG", "SET", "maxmemory", "1mb")
	op := &relay.Settle{
		Leased: l.Leased[0], Outcome: relay.OutcomeRetry, Attempt: &relay.Attempt{At: time.Now()}, Files: []relay.File{{Field: "a", Size: 1}},
	}
	s.Apply(t.Context(), &relay.Batch{Settles: []*relay.Settle{op}})
	if op.Err != nil {
		t.Fatal(op.Err)
	}
	op.Leased, op.Outcome, op.Files = lease(t, s, relay.ArchiveName, 1).Leased[0], relay.OutcomeDead, []relay.File{{Field: "b", Size: 2}}
	s.Apply(t.Context(), &relay.Batch{Settles: []*relay.Settle{op}})
	if op.Err != nil || len(op.Freed) != 1 {
		t.Fatalf("freed %v, error %v", op.Freed, op.Err)
	}
	if l := lease(t, s, "one", 1); len(l.Leased) != 1 || len(l.Leased[0].Files) != 2 {
		t.Fatalf("leased %+v", l.Leased)
	}
}
