package spool_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o spool.Options) *spool.Spool {
	t.Helper()
	s, err := spool.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func accept(source string, n int) *relay.Accept {
	return &relay.Accept{
		Event: &relay.Event{
			ID: fmt.Sprint("event-", n), Source: source, TaskID: fmt.Sprint("task-", n), Stage: "complete", Code: "200",
			Key: sha256.Sum256([]byte{byte(n)}), Fingerprint: sha256.Sum256([]byte{byte(n), 1}), Origin: relay.OriginCallback,
			ReceivedAt: time.Now().Truncate(time.Microsecond), Headers: relay.Headers{"content-type": "application/json"},
			Body: fmt.Appendf(nil, `{"n":%d,"b":"\x00"}`, n),
		},
		Window:     time.Hour,
		Separate:   n%2 == 1,
		Deliveries: []relay.NewDelivery{{Destination: "one", LeaseFor: time.Minute}, {Destination: "two", Ordered: true, Behind: "one"}},
	}
}

func TestWhatGoesInComesOutInOrder(t *testing.T) {
	o := spool.Options{Path: filepath.Join(t.TempDir(), "deep", "spool.db")}
	s := open(t, o)
	first := accept("a", 1)
	if err := s.Append([]*relay.Accept{first, accept("b", 2), accept("a", 3)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(o.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	s = open(t, o)
	if w, err := s.Waiting(); err != nil || w["a"] != 2 || w["b"] != 1 {
		t.Fatalf("waiting are %v, %v", w, err)
	}
	items, err := s.Next("a", 10)
	if err != nil || len(items) != 2 || items[1].Accept.Event.ID != "event-3" {
		t.Fatalf("next are %v, %v", items, err)
	}
	got, want := items[0].Accept, first
	if got.Event.ID != want.Event.ID || got.Event.Key != want.Event.Key || got.Event.Fingerprint != want.Event.Fingerprint ||
		!bytes.Equal(got.Event.Body, want.Event.Body) || !got.Event.ReceivedAt.Equal(want.Event.ReceivedAt) ||
		got.Event.Headers["content-type"] != "application/json" || got.Window != time.Hour || !got.Separate || len(got.Deliveries) != 2 ||
		got.Deliveries[0].LeaseFor != 0 || !got.Deliveries[1].Ordered || got.Deliveries[1].Behind != "one" {
		t.Errorf("an accept came out as %+v of %+v", got, got.Event)
	}
	if err := s.Remove(items); err != nil {
		t.Fatal(err)
	}
	if st := s.Stat(); st.Events != 1 || st.Bytes <= 0 || st.Oldest.IsZero() {
		t.Errorf("after a removal the spool has %+v", st)
	}
}

func TestLimits(t *testing.T) {
	s := open(t, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db"), MaxBytes: 1000})
	n := 0
	var err error
	for ; err == nil && n < 100; n++ {
		err = s.Append([]*relay.Accept{accept("a", n)})
	}
	if !errors.Is(err, relay.ErrStoreFull) || n < 2 {
		t.Fatalf("append %d returned %v", n, err)
	}
	if st := s.Stat(); st.Events != n-1 || st.Bytes > 1000 {
		t.Errorf("a full spool has %+v", st)
	}
	items, err := s.Next("a", 100)
	if err != nil || len(items) != n-1 {
		t.Fatalf("next returned %d, %v", len(items), err)
	}
	if err := s.Remove(items); err != nil {
		t.Fatal(err)
	}
	if err := s.Append([]*relay.Accept{accept("a", 100)}); err != nil {
		t.Errorf("an emptied spool takes nothing: %v", err)
	}
}

func TestAge(t *testing.T) {
	s := open(t, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db"), MaxAge: time.Nanosecond})
	if err := s.Append([]*relay.Accept{accept("a", 1)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append([]*relay.Accept{accept("a", 2)}); !errors.Is(err, relay.ErrStoreFull) {
		t.Errorf("behind one that is too old append returned %v", err)
	}
}

func TestStuck(t *testing.T) {
	s := open(t, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	if err := s.Append([]*relay.Accept{accept("a", 1), accept("a", 2)}); err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		items, err := s.Next("a", 1)
		if err != nil {
			t.Fatal(err)
		}
		stuck, err := s.Refuse(items[0], "no")
		if err != nil || stuck != (n == relay.MaxRefused) {
			t.Fatalf("refusal %d returned %v, %v", n, stuck, err)
		}
		if stuck {
			break
		}
	}
	items, err := s.Next("a", 10)
	if err != nil || len(items) != 1 || items[0].Accept.Event.ID != "event-2" {
		t.Errorf("behind a stuck one there are %v, %v", items, err)
	}
	if st := s.Stat(); st.Events != 1 || st.Stuck != 1 {
		t.Errorf("the spool has %+v", st)
	}
}

// What cannot be read comes with its error, in its place, and is set aside at the first refusal.
func TestUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, spool.Options{Path: path})
	if err := s.Append([]*relay.Accept{accept("a", 1), accept("a", 2), accept("a", 3), accept("a", 4)}); err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{
		"UPDATE item SET meta = x'00' WHERE seq = 1", "UPDATE item SET meta = '{}' WHERE seq = 2",
		"UPDATE item SET headers = 'no headers' WHERE seq = 3",
	} {
		if err := sqlitex.ExecuteTransient(conn, change, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	items, err := s.Next("a", 10)
	if err != nil || len(items) != 4 || items[3].Err != nil || items[3].Accept.Event.ID != "event-4" {
		t.Fatalf("next returned %v, %v", items, err)
	}
	for _, item := range items[:3] {
		if item.Err == nil {
			t.Errorf("entry %d can be read", item.Seq)
		}
		if stuck, err := s.Refuse(item, "unreadable"); !stuck || err != nil {
			t.Errorf("refuse returned %v, %v", stuck, err)
		}
	}
	if items, err := s.Next("a", 10); err != nil || len(items) != 1 {
		t.Errorf("next returned %v, %v", items, err)
	}
	if st := s.Stat(); st.Events != 1 || st.Stuck != 3 {
		t.Errorf("the spool has %+v", st)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.db")
	if err := os.WriteFile(path, []byte("no database, and none of ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Open(t.Context(), spool.Options{Path: path}); err == nil {
		t.Error("a file of something else was opened")
	}
}
