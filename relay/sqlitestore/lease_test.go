package sqlitestore

import (
	"fmt"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// However many leases have ended, a lease makes no more deliveries due again than a transaction may touch; the next one goes
// on, with the oldest of those that are left.
func TestLeasesThatEndedTogether(t *testing.T) {
	var stepped steppedClock
	s, err := Open(t.Context(), Options{Path: t.TempDir() + "/relay.db", MinFree: 1, Clock: stepped.clock()})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	const most = relay.MaxTouched + 100
	for first := 0; first < most; first += most / 2 {
		var b relay.Batch
		for i := range most / 2 {
			a := newAccept(fmt.Sprint(first + i))
			a.Deliveries = []relay.NewDelivery{{Destination: "billing", LeaseFor: time.Minute}}
			b.Accepts = append(b.Accepts, a)
		}
		s.Apply(t.Context(), &b)
		for _, a := range b.Accepts {
			must(t, a.Err)
		}
	}
	stepped.elapsed.Store(int64(2 * time.Minute))
	lease := func(wantTask string, wantExpired int64) {
		t.Helper()
		l := &relay.Lease{Source: "vocals", Destination: "billing", Max: 1, For: time.Hour}
		s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
		must(t, l.Err)
		if len(l.Leased) != 1 || l.Leased[0].Event.TaskID != wantTask || l.Next != 0 {
			t.Fatalf("leased %+v, next %s", l.Leased, l.Next)
		}
		if c := s.Counts()[0]; c.LeaseExpired != wantExpired {
			t.Fatalf("%d leases have expired, want %d", c.LeaseExpired, wantExpired)
		}
	}
	lease("0", relay.MaxTouched)
	lease("1", most)
}
