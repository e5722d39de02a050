package sqlitestore_test

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// busy is a store as a busy gateway writes it.
type busy struct {
	*sqlitestore.Store
	b       *testing.B
	settles []*relay.Settle
	events  int
}

func openBusy(b *testing.B) *busy {
	b.Helper()
	s, err := sqlitestore.Open(b.Context(), sqlitestore.Options{Path: filepath.Join(b.TempDir(), "relay.db"), MinFree: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return &busy{Store: s, b: b}
}

// apply writes 32 events, each leased at once to three destinations, and the settles of the batch before.
func (s *busy) apply() {
	batch := &relay.Batch{Settles: s.settles}
	for range 32 {
		s.events++
		id := ulid.Make()
		a := &relay.Accept{Window: time.Hour, Event: &relay.Event{
			ID: id.String(), Source: "vocals", TaskID: fmt.Sprint("task-", s.events), Stage: "complete", Code: "200",
			Key: sha256.Sum256(id[:]), Origin: relay.OriginCallback, ReceivedAt: time.Now(), Body: make([]byte, 450),
			Headers: relay.Headers{"content-type": "application/json"},
		}}
		for _, to := range []string{"one", "two", "three"} {
			a.Deliveries = append(a.Deliveries, relay.NewDelivery{Destination: to, LeaseFor: time.Minute})
		}
		batch.Accepts = append(batch.Accepts, a)
	}
	s.Apply(s.b.Context(), batch)
	s.settles = nil
	for _, a := range batch.Accepts {
		if a.Err != nil || len(a.Leased) != 3 {
			s.b.Fatalf("%d leased, %v", len(a.Leased), a.Err)
		}
		for _, l := range a.Leased {
			s.settles = append(s.settles, &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: &relay.Attempt{At: time.Now(), Status: 200}})
		}
	}
}

// BenchmarkApply measures batches of accepts and settles.
func BenchmarkApply(b *testing.B) {
	s := openBusy(b)
	for b.Loop() {
		s.apply()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(s.events), "µs/event")
}

// BenchmarkPurge measures the purge of events whose deliveries are settled, and of a few that are not.
func BenchmarkPurge(b *testing.B) {
	purged := 0
	for b.Loop() {
		b.StopTimer()
		s := openBusy(b)
		for range 100 {
			s.apply()
		}
		b.StartTimer()
		for more := true; more; {
			r, err := s.Purge(b.Context(), relay.PurgePolicy{})
			if err != nil {
				b.Fatal(err)
			}
			purged, more = purged+r.Events, r.More
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(purged), "µs/event")
}
