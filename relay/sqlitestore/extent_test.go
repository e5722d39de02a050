package sqlitestore

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
)

// Lists have what their filter asks for, in order and each event once, wherever a wall clock was set or a callback waited:
// of runs, of recent events, of what a file of before has no extents of, and after a restart.
func TestExtents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	s := openUntended(t, path)
	random := rand.New(rand.NewPCG(1, 2))
	var all []*relay.Event
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	put := func(events int) {
		b := &relay.Batch{}
		for range events {
			n := len(all)
			at = at.Add(time.Second)
			switch n {
			case 1000:
				at = at.Add(-20 * time.Minute) // the clock is set
			case 2600:
				at = at.Add(time.Hour)
			}
			id := ulid.MustNew(ulid.Timestamp(at), ulid.DefaultEntropy())
			ev := &relay.Event{
				ID: id.String(), Source: fmt.Sprint("source-", n/50%80), TaskID: fmt.Sprint("task-", n%10), Key: sha256.Sum256(id[:]),
				Origin: relay.OriginCallback, ReceivedAt: at, Body: []byte("{}"),
			}
			if n%97 == 0 {
				ev.Source = "often"
				ev.ReceivedAt = at.Add(-time.Duration(random.IntN(3600)) * time.Second) // it has waited
			}
			if n == 1234 || n == 3900 {
				ev.Source = "rare"
			}
			all = append(all, ev)
			b.Accepts = append(b.Accepts, &relay.Accept{Window: time.Hour, Event: ev, Deliveries: []relay.NewDelivery{{Destination: "one", LeaseFor: time.Minute}}})
		}
		s.Apply(t.Context(), b)
		settled := &relay.Batch{}
		for _, a := range b.Accepts {
			must(t, a.Err)
			for _, l := range a.Leased {
				settle := &relay.Settle{Leased: l, Outcome: relay.OutcomeDelivered}
				if a.Event.Source == "rare" || a.Event.Source == "often" && a.Event.Seq%2 == 0 {
					settle.Outcome = relay.OutcomeDead
				}
				settled.Settles = append(settled.Settles, settle)
			}
		}
		s.Apply(t.Context(), settled)
	}
	check := func(when string, complete bool) {
		t.Helper()
		from, to := all[len(all)/3].ReceivedAt, all[len(all)/2].ReceivedAt
		for _, f := range []relay.EventFilter{
			{},
			{Since: from},
			{Until: to},
			{Since: from, Until: to},
			{Since: all[len(all)-1].ReceivedAt},
			{Since: at.Add(2 * time.Hour)},
			{Source: "rare"},
			{Source: "often", Until: to},
			{Source: "source-7"},
			{Source: "source-71", Since: from},
			{Source: "nobody"},
			{State: relay.StateDead},
			{State: relay.StateDead, Since: from, Until: to},
			{State: relay.StateDead, Source: "rare"},
			{State: relay.StatePending},
			{Destination: "one", Since: from, Until: to},
			{Destination: "none"},
			{TaskID: "task-3", Until: to},
		} {
			for _, f.Oldest = range []bool{false, true} {
				f.Limit = 100
				var want, got []string
				for _, ev := range all {
					dead := ev.Source == "rare" || ev.Source == "often" && ev.Seq%2 == 0
					if (f.Source == "" || f.Source == ev.Source) && (f.TaskID == "" || f.TaskID == ev.TaskID) &&
						(f.Since.IsZero() || !ev.ReceivedAt.Before(f.Since)) && (f.Until.IsZero() || ev.ReceivedAt.Before(f.Until)) &&
						(f.State == "" || f.State == relay.StateDead && dead) && f.Destination != "none" {
						want = append(want, ev.ID)
					}
				}
				if !f.Oldest {
					slices.Reverse(want)
				}
				pages := 0
				f.Cursor = ""
				for more := true; more; more = f.Cursor != "" {
					page, next, err := s.Events(t.Context(), f)
					must(t, err)
					for i := range page {
						got = append(got, page[i].ID)
					}
					f.Cursor = next
					pages++
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s the list of %+v has %d events, want %d", when, f, len(got), len(want))
				}
				if most := len(want)/f.Limit + 1; pages > most && complete {
					t.Errorf("%s the list of %+v, of %d events, takes %d pages, want %d at most", when, f, len(want), pages, most)
				}
			}
		}
	}
	write := func() { must(t, s.writeRecent(s.besides(), s.recent.events)) }
	for range 4 {
		put(500)
	}
	check("in memory", true)
	write()
	check("in a run", true)
	must(t, s.transact(nil, func() error { return s.db.Writer.Stmt("DELETE FROM extent").Exec() }))
	check("without extents", false)
	for range 3 {
		put(500)
	}
	write()
	put(500)
	check("half of it without extents, half in a run", false)
	must(t, s.Close())
	s = openUntended(t, path)
	defer func() { must(t, s.Close()) }()
	check("after a restart", false)
}

// The extents of events that have been purged go.
func TestExtentsGo(t *testing.T) {
	s := openUntended(t, filepath.Join(t.TempDir(), "relay.db"))
	defer func() { must(t, s.Close()) }()
	must(t, s.transact(nil, func() error {
		return s.db.Writer.Stmt("INSERT INTO extent VALUES (1, 9, 0, 0, 1), (10, 19, 0, 0, 1)").Exec()
	}))
	left := func() int64 {
		n, err := s.db.Writer.Stmt("SELECT count(*) FROM extent").Int64()
		must(t, err)
		return n
	}
	must(t, s.dropExtents())
	if n := left(); n != 2 {
		t.Fatalf("without any event %d extents are left, want 2: nothing is known of what was there", n)
	}
	must(t, s.transact(nil, func() error {
		return s.db.Writer.Stmt("INSERT INTO event VALUES (12, x'01', 1, '', '', '', x'02', x'03', '', 0, 0, NULL, x'', 0)").Exec()
	}))
	must(t, s.dropExtents())
	if n := left(); n != 1 {
		t.Errorf("%d extents are left, want that of the event which is there", n)
	}
}
