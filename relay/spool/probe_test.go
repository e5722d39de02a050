package spool

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay"
)

// A spool whose disk refused a write is healthy again once the disk takes one, though nobody has an entry for it.
func TestProbe(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "spool.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	set := func(pragma string) {
		t.Helper()
		if err := s.db.Writer.Pragma(pragma); err != nil {
			t.Fatal(err)
		}
	}
	set("query_only=1") // SQLite refuses to write then, as on a disk that is mounted read-only
	register := func() error { return s.AppendTask(&relay.Expectation{}) }
	if err := register(); err == nil || s.Stat().Error != err.Error() {
		t.Errorf("the append returns %v, the state is %q", err, s.Stat().Error)
	}
	if err := s.Probe(); err == nil || s.Stat().Error != err.Error() {
		t.Errorf("while the disk refuses writes the probe returns %v, the state is %q", err, s.Stat().Error)
	}
	set("query_only=0")
	before, err := s.db.LogBytes()
	if err := errors.Join(err, s.Probe()); err != nil || s.Stat().Error != "" {
		t.Errorf("once it takes them the probe returns %v, the state is %q", err, s.Stat().Error)
	}
	if after, err := s.db.LogBytes(); err != nil || after <= before {
		t.Errorf("the probe wrote nothing: %d bytes before, %d after, %v", before, after, err)
	}
	if err := register(); err != nil || s.Stat().Events != 1 {
		t.Errorf("then the append returns %v, and the spool has %d entries", err, s.Stat().Events)
	}
}
