package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/spool"
)

// What others do to the spool's files never ends in an answer that is not durable, nor in the end of the process.
func TestHarm(t *testing.T) {
	for name, tc := range map[string]struct {
		harm, mend func(path string) error
	}{
		"moved away": {
			func(path string) error { return os.Rename(path, path+".away") },
			func(path string) error { return os.Rename(path+".away", path) },
		},
		"log removed": {harm: func(path string) error { return os.Remove(path + "-wal") }},
		"log replaced": {harm: func(path string) error {
			return errors.Join(os.Remove(path+"-wal"), os.WriteFile(path+"-wal", []byte("something else"), 0o600))
		}},
		"index removed": {harm: func(path string) error { return os.Remove(path + "-shm") }},
		"index emptied": {harm: func(path string) error { return os.Truncate(path+"-shm", 0) }},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "spool.db")
			synctest.Test(t, func(t *testing.T) {
				s, err := spool.Open(t.Context(), spool.Options{Path: path})
				if err != nil {
					t.Fatal(err)
				}
				put := func(n int) error { return s.Append([]*relay.Accept{accept("a", n)}) }
				if err := put(1); err != nil {
					t.Fatal(err)
				}
				if err := tc.harm(path); err != nil {
					t.Fatal(err)
				}
				_, err = s.Next("a", 10) // whoever drains it finds out
				if !errors.Is(err, relay.ErrUnavailable) || s.Stat().Error == "" {
					t.Errorf("next returns %v, the state is %+v", err, s.Stat())
				}
				if tc.mend != nil {
					if err := put(2); !errors.Is(err, relay.ErrUnavailable) {
						t.Errorf("append returns %v", err)
					}
					if err := tc.mend(path); err != nil {
						t.Fatal(err)
					}
					<-time.After(2 * time.Second)
				}
				if err := s.Probe(); err != nil || s.Stat().Error != "" {
					t.Errorf("when it is mended the probe returns %v, the state is %+v", err, s.Stat())
				}
				if err := put(3); err != nil {
					t.Errorf("when it is mended append returns %v", err)
				}
				items, err := s.Next("a", 10)
				if err != nil || len(items) != 2 || s.Stat().Error != "" || s.Stat().Events != 2 {
					t.Errorf("it has %d entries, %v, the state is %+v", len(items), err, s.Stat())
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if s, err = spool.Open(t.Context(), spool.Options{Path: path}); err != nil {
					t.Fatal(err)
				}
				if items, err := s.Next("a", 10); err != nil || len(items) != 2 {
					t.Errorf("after a restart it has %d entries, %v", len(items), err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The first append into files without a name is refused.
func TestAppendIntoNowhere(t *testing.T) {
	for _, suffix := range []string{"", "-wal"} {
		o := spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")}
		s, err := spool.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(o.Path + suffix); err != nil {
			t.Fatal(err)
		}
		if err := s.Append([]*relay.Accept{accept("a", 1)}); !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("with %q removed append returns %v", suffix, err)
		}
		_ = s.Close()
	}
}

// A panic in the middle of an entry leaves the spool as it was.
func TestPanic(t *testing.T) {
	s := open(t, spool.Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	if err := s.Append([]*relay.Accept{accept("a", 1), {Event: nil}}); err == nil {
		t.Error("an accept without an event is taken")
	}
	if err := s.Append([]*relay.Accept{accept("a", 2)}); err != nil {
		t.Error(err)
	}
	if st := s.Stat(); st.Events != 1 || st.Error != "" {
		t.Errorf("it has %+v", st)
	}
}
