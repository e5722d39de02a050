package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// numbered returns an accept whose event has a number for its id.
func numbered(source string, n int) *relay.Accept {
	return &relay.Accept{Event: &relay.Event{ID: fmt.Sprint(n), Source: source, Key: sha256.Sum256([]byte{byte(n)}), Headers: relay.Headers{}}}
}

// What the store has is not handed over again because the disk is full, and what waits behind it is.
func TestHandedOverOntoAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		pragma := func(set string) {
			t.Helper()
			if err := s.db.Writer.Pragma(set); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(when string, events int, want ...string) []*relay.Spooled {
			t.Helper()
			items, err := s.Next("a", 10)
			var got []string
			for _, item := range items {
				got = append(got, item.Accept.Event.ID)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || err != nil || s.Stat().Events != events {
				t.Errorf("%s: next are %v, %v, want %v; it counts %d events, want %d", when, got, err, want, s.Stat().Events, events)
			}
			return items
		}

		var oldest []time.Time
		for n, source := range []string{"a", "a", "b", "a", "a"} {
			oldest = append(oldest, time.UnixMilli(time.Now().UnixMilli()))
			if err := s.Append([]*relay.Accept{numbered(source, n+1)}); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second)
		}
		first := expect("before", 5, "1", "2", "4", "5")

		pragma("query_only=1") // SQLite refuses to write then, as on a full disk
		if err := s.Remove(first[1:2]); err == nil {
			t.Error("on a full disk remove returns no error")
		}
		expect("one of the middle is handed over", 4, "1", "4", "5")
		if err := s.Remove(first[:1]); err == nil {
			t.Error("on a full disk remove returns no error")
		}
		expect("the first ones are handed over", 3, "4", "5")
		if st := s.Stat(); st.Error == "" || !st.Oldest.Equal(oldest[2]) {
			t.Errorf("the state is %+v, want the oldest at %v, and an error", st, oldest[2])
		}
		if err := s.Probe(); err == nil {
			t.Error("on a full disk the probe returns no error")
		}

		_ = s.db.Break(errors.New("a fault"))
		<-time.After(2 * time.Second)
		expect("opened anew", 3, "4", "5")

		pragma("query_only=1")
		if err := s.Remove(expect("full again", 3, "4", "5")[:1]); err == nil {
			t.Error("on a full disk remove returns no error")
		}
		pragma("query_only=0")
		if err := s.db.Writer.Stmt(`UPDATE item SET meta = json_set(CAST(meta AS TEXT), '$.id', 'other') WHERE seq = 4`).Exec(); err != nil {
			t.Fatal(err)
		}
		_ = s.db.Break(errors.New("a fault, after which another entry has the number"))
		<-time.After(2 * time.Second)
		expect("opened anew with another entry", 3, "other", "5")

		if err := s.Probe(); err != nil || s.Stat().Error != "" {
			t.Errorf("with room the probe returns %v, the state is %+v", err, s.Stat())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if s, err = Open(t.Context(), Options{Path: path}); err != nil {
			t.Fatal(err)
		}
		expect("after a restart", 3, "other", "5")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What the store refuses is set aside though the disk is full, and what waits behind it is handed over.
func TestRefusedOntoAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		accepts := make([]*relay.Accept, 3)
		for n := range accepts {
			accepts[n] = numbered("a", n+1)
		}
		if err := s.Append(accepts); err != nil {
			t.Fatal(err)
		}
		if err := s.db.Writer.Stmt("UPDATE item SET meta = '{}' WHERE seq = 2").Exec(); err != nil {
			t.Fatal(err)
		}
		expect := func(when string, waiting, stuck, refused int) {
			t.Helper()
			items, err := s.Next("a", 10)
			if err != nil || len(items) != waiting || items[0].Refused != refused || s.Stat().Events != waiting || s.Stat().Stuck != stuck {
				t.Errorf("%s: next are %+v, %v, the state is %+v", when, items, err, s.Stat())
			}
		}
		refuse := func(place int, want bool) {
			t.Helper()
			items, err := s.Next("a", 10)
			if err != nil {
				t.Fatal(err)
			}
			if stuck, err := s.Refuse(items[place], "no"); stuck != want || err == nil {
				t.Errorf("refuse returns %t, %v", stuck, err)
			}
		}

		full := func() {
			t.Helper()
			if err := s.db.Writer.Pragma("query_only=1"); err != nil { // SQLite refuses to write then, as on a full disk
				t.Fatal(err)
			}
		}
		full()
		for n := range relay.MaxRefused - 1 {
			refuse(0, false)
			expect("refused", 3, 0, n+1)
		}
		refuse(1, true)
		expect("one cannot be read", 2, 1, relay.MaxRefused-1)
		refuse(0, true)
		expect("refused once too often", 1, 2, 0)

		_ = s.db.Break(errors.New("a fault"))
		<-time.After(2 * time.Second)
		expect("opened anew", 1, 2, 0)
		full()
		refuse(0, false)
		if err := s.db.Writer.Pragma("query_only=0"); err != nil {
			t.Fatal(err)
		}
		if err := s.Probe(); err != nil {
			t.Error(err)
		}
		expect("with room", 1, 2, 1)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if s, err = Open(t.Context(), Options{Path: path}); err != nil {
			t.Fatal(err)
		}
		expect("after a restart", 1, 2, 1)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A fault that is found after what has become of an entry was written does not count the entry twice.
func TestFaultAfterARefusalIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "spool.db")})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append([]*relay.Accept{numbered("a", 1), numbered("a", 2)}); err != nil {
			t.Fatal(err)
		}
		items, err := s.Next("a", 1)
		if err != nil {
			t.Fatal(err)
		}
		items[0].Refused = relay.MaxRefused - 1
		if stuck, err := s.Refuse(items[0], "no"); !stuck || err != nil {
			t.Fatal(stuck, err)
		}
		s.unwritten.fates[items[0].Seq] = fate{subject: "1", refused: relay.MaxRefused, stuck: true} // as it is where the write returns the fault
		_ = s.db.Break(errors.New("a fault"))
		<-time.After(2 * time.Second)
		if items, err := s.Next("a", 10); err != nil || len(items) != 1 || s.Stat().Events != 1 || s.Stat().Stuck != 1 {
			t.Errorf("next are %v, %v, the state is %+v", items, err, s.Stat())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What could not be written is written from the oldest entry on, so that it needs as little room as it can.
func TestWritesTheOldestFirst(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	if err != nil {
		t.Fatal(err)
	}
	const more = 20
	accepts := make([]*relay.Accept, writtenAtOnce+more)
	for n := range accepts {
		accepts[n] = numbered("a", n+1)
	}
	if err := s.Append(accepts); err != nil {
		t.Fatal(err)
	}
	items, err := s.Next("a", len(accepts))
	if err := errors.Join(err, s.db.Writer.Pragma("query_only=1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(items); err == nil {
		t.Error("on a full disk remove returns no error")
	}
	if err := s.db.Writer.Pragma("query_only=0"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{more, 0} {
		if err := s.Probe(); err != nil {
			t.Error(err)
		}
		newest, err := s.db.Writer.Stmt("SELECT count(*) FROM item WHERE seq > " + fmt.Sprint(writtenAtOnce)).Int64()
		all, failed := s.db.Writer.Stmt("SELECT count(*) FROM item").Int64()
		if all != want || newest != want || errors.Join(err, failed) != nil || s.Stat().Events != 0 {
			t.Errorf("%d of %d entries that are left are the newest, %v, %v; the state is %+v", newest, all, err, failed, s.Stat())
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
