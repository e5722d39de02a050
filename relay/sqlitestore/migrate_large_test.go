//go:build !race

// The race detector would need minutes for so many rows.

package sqlitestore

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

const (
	oldEvents = 100_000
	oldBegin  = 1_700_000_000_000 // when the ids were made
	oldStates = 10                // the n-th event is in state n % oldStates
)

// oldID is the id that the n-th event of the old file has, oldKey its key.
func oldID(n int64) (id ulid.ULID) {
	_ = id.SetTime(uint64(oldBegin + n))
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func oldKey(n int64) (key [32]byte) {
	binary.BigEndian.PutUint32(key[:], bits.Reverse32(uint32(n)))
	binary.BigEndian.PutUint64(key[24:], uint64(n))
	return key
}

// writeOld fills a file of the first version with events in all states, each of a task of its own. It had moved most of
// them from memory to tables.
func writeOld(t *testing.T, path string) {
	t.Helper()
	db, err := sqlitefile.Open(t.Context(), sqlitefile.Options{
		Path: path, Kind: "store", ApplicationID: applicationID, Migrations: migrations[:1], Readers: 1,
	})
	must(t, err)
	const per = oldEvents / oldStates
	must(t, db.Write(func() error {
		for n := int64(1); n <= oldEvents; n++ {
			id, key := oldID(n), oldKey(n)
			st := db.Writer.Stmt(`INSERT INTO event (seq, id, source, task, stage, code, key, fingerprint, origin, accepted, received, body)
				VALUES (?1, ?2, 1, ?4, 'complete', '200', ?3, ?3, 'callback', ?1, ?1, '{}')`)
			st.BindInt64(1, n)
			st.BindBytes(2, id[:])
			st.BindBytes(3, key[:])
			st.BindText(4, fmt.Sprint("task-", n))
			if err := st.Exec(); err != nil {
				return err
			}
		}
		for _, query := range []string{
			"INSERT INTO source (id, name) VALUES (1, 'vocals')",
			fmt.Sprintf("INSERT INTO destination (id, source, name, pending, delivered, dead, low) VALUES (1, 1, 'one', %d, %d, %d, 1)", 5*per, 4*per, per),
			// Ready, waiting for a retry, in a chain and blocked there, replayed and due again, dead, and the others delivered.
			`INSERT INTO delivery (event, destination, state, due, tries, used, replay, settled, dead_at, reason, since, chain)
				SELECT seq, 1, CASE seq % 10 WHEN 0 THEN 0 WHEN 1 THEN 1 WHEN 2 THEN 0 WHEN 3 THEN 4 WHEN 4 THEN 1 WHEN 5 THEN 3 ELSE 2 END,
				seq % 10 = 4, seq % 10 > 4, seq % 10 > 4, seq % 10 = 4, CASE WHEN seq % 10 > 4 THEN seq ELSE 0 END, CASE WHEN seq % 10 = 5 THEN seq ELSE 0 END, '',
				seq % 10 = 4, CASE WHEN seq % 10 IN (2, 3) THEN 'chain-' || (seq / 10) END FROM event`,
			"INSERT INTO attempt (event, destination, n, at, duration, status, error) SELECT event, 1, 1, event, 5, CASE state WHEN 2 THEN 200 ELSE 410 END, '' FROM delivery WHERE tries > 0",
			"INSERT INTO dedupe SELECT seq, seq FROM event",
			"INSERT INTO task SELECT seq, seq FROM event",
			"INSERT INTO meta (key, value) VALUES ('indexed', 90000), ('clock', 100000), ('wall', 0)",
		} {
			if err := db.Writer.Stmt(query).Exec(); err != nil {
				return fmt.Errorf("%s: %w", query, err)
			}
		}
		return nil
	}))
	must(t, db.Close())
}

// A large file of the first version has all that it had: each delivery in its state, and every event is found.
func TestMigrateLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	writeOld(t, path)
	s := openUntended(t, path)
	defer func() { must(t, s.Close()) }()
	const per = oldEvents / oldStates
	if c := s.Counts(); len(c) != 1 || c[0].Pending != 5*per || c[0].Delivered != 4*per || c[0].Dead != per {
		t.Errorf("the counts are %+v", c)
	}
	states := []relay.State{
		relay.StatePending, relay.StatePending, relay.StatePending, relay.StatePending, relay.StatePending, relay.StateDead,
		relay.StateDelivered, relay.StateDelivered, relay.StateDelivered, relay.StateDelivered,
	}
	for n := int64(1); n <= oldEvents; n += 997 {
		r, err := s.Event(t.Context(), oldID(n).String())
		must(t, err)
		d := r.Deliveries[0]
		if r.Seq != n || d.State != states[n%oldStates] || len(d.Attempts) != d.Tries || (d.Replay > 0) != (n%oldStates == 4) {
			t.Errorf("event %d is %+v", n, r)
		}
		list, _, err := s.Events(t.Context(), relay.EventFilter{TaskID: fmt.Sprint("task-", n)})
		if err != nil || len(list) != 1 || list[0].Seq != n {
			t.Errorf("task %d has %+v, %v", n, list, err)
		}
		again := &relay.Accept{Window: 24 * time.Hour, Event: &relay.Event{ID: ulid.Make().String(), Source: "vocals", Key: oldKey(n), Fingerprint: oldKey(n)}}
		s.Apply(t.Context(), &relay.Batch{Accepts: []*relay.Accept{again}})
		if again.Err != nil || again.Result != relay.Duplicate || again.FirstID != oldID(n).String() {
			t.Errorf("event %d again is %v of %s, %v", n, again.Result, again.FirstID, again.Err)
		}
	}
	letters, next, err := s.DeadLetters(t.Context(), relay.Selection{}, 2*per, "")
	if len(letters) != per || next != "" || err != nil {
		t.Errorf("%d letters are dead, next %q, %v", len(letters), next, err)
	}
	leased := 0
	for more := true; more; {
		l := &relay.Lease{Source: "vocals", Destination: "one", Max: 1000, For: time.Minute}
		s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
		must(t, l.Err)
		leased += len(l.Leased)
		more = len(l.Leased) > 0
	}
	if leased != 4*per {
		t.Errorf("%d deliveries can be leased, want %d", leased, 4*per)
	}
	var due []relay.DeliveryName
	for n := int64(6); n < 6+10*oldStates; n += oldStates {
		due = append(due, relay.DeliveryName{EventID: oldID(n).String(), Destination: "one"})
	}
	if n, skipped, err := s.ReplayAll(t.Context(), "vocals", due, relay.Pace{}); n != len(due) || skipped != 0 || err != nil {
		t.Errorf("%d are replayed and %d skipped, %v", n, skipped, err)
	}
}
