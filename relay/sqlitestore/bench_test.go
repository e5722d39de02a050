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

// BenchmarkApply measures batches as a busy gateway writes them: 32 events, each leased at once to three destinations, and
// the settles of the batch before.
func BenchmarkApply(b *testing.B) {
	s, err := sqlitestore.Open(b.Context(), sqlitestore.Options{Path: filepath.Join(b.TempDir(), "relay.db"), MinFree: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	body := make([]byte, 450)
	var settles []*relay.Settle
	n := 0
	for b.Loop() {
		batch := &relay.Batch{Settles: settles}
		for range 32 {
			n++
			id := ulid.Make()
			a := &relay.Accept{Window: time.Hour, Event: &relay.Event{
				ID: id.String(), Source: "vocals", TaskID: fmt.Sprint("task-", n), Stage: "complete", Code: "200",
				Key: sha256.Sum256(id[:]), Origin: relay.OriginCallback, ReceivedAt: time.Now(), Body: body,
				Headers: relay.Headers{"content-type": "application/json"},
			}}
			for _, to := range []string{"one", "two", "three"} {
				a.Deliveries = append(a.Deliveries, relay.NewDelivery{Destination: to, LeaseFor: time.Minute})
			}
			batch.Accepts = append(batch.Accepts, a)
		}
		s.Apply(b.Context(), batch)
		settles = nil
		for _, a := range batch.Accepts {
			if a.Err != nil || len(a.Leased) != 3 {
				b.Fatalf("%d leased, %v", len(a.Leased), a.Err)
			}
			for _, l := range a.Leased {
				settles = append(settles, &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered, Attempt: &relay.Attempt{At: time.Now(), Status: 200}})
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/event")
}
