package sqlitestore

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/internal/sqlitefile"
)

// A file of the first version keeps what it has, and its deliveries go on.
func TestOpenMigrates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	db, err := sqlitefile.Open(t.Context(), sqlitefile.Options{
		Path: path, Kind: "store", ApplicationID: applicationID, Migrations: migrations[:1], Readers: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	id := ulid.Make()
	err = db.Write(func() error {
		for _, query := range []string{
			"INSERT INTO source (id, name) VALUES (1, 'vocals')",
			"INSERT INTO destination (id, source, name, pending) VALUES (1, 1, 'one', 1), (2, 1, 'two', 1)",
			"INSERT INTO delivery (event, destination, state) VALUES (1, 1, 0)",
			"INSERT INTO delivery (event, destination, state, due, tries, chain) VALUES (1, 2, 1, 5, 2, 'task')",
		} {
			if err := db.Writer.Stmt(query).Exec(); err != nil {
				return err
			}
		}
		st := db.Writer.Stmt(`INSERT INTO event (seq, id, source, task, stage, code, key, fingerprint, origin, accepted, received, body)
			VALUES (1, ?1, 1, 'task', 'complete', '200', ?2, ?2, 'callback', 1, 1, '{}')`)
		st.BindBytes(1, id[:])
		st.BindBytes(2, bytes.Repeat([]byte{7}, 32))
		return st.Exec()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and as a file of today
		s, err := Open(t.Context(), Options{Path: path, MinFree: 1})
		if err != nil {
			t.Fatal(err)
		}
		for name, tries := range map[string]int{"one": 0, "two": 2} {
			l := &relay.Lease{Source: "vocals", Destination: name, Max: 5, For: time.Minute}
			s.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}})
			if l.Err != nil || len(l.Leased) != 1 || l.Leased[0].Event.ID != id.String() || l.Leased[0].Tries != tries || l.Leased[0].Files != nil {
				t.Errorf("leased %+v of %s, error %v", l.Leased, name, l.Err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
