package sqlitestore

import (
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite/sqlitex"
)

// What the log holds is known without its file's size, which stays when the writer begins anew.
func TestLogSize(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "relay.db"), MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	fill := func(n int) {
		for i := range n {
			if err := s.transact(nil, func() error { return s.setMeta("filling", int64(i)) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(100)
	before, err := s.logSize()
	info, statErr := os.Stat(s.path + "-wal")
	if err != nil || statErr != nil || before < 99*4096 || before > info.Size() {
		t.Fatalf("log of %d bytes in a file of %v, errors %v, %v", before, info, err, statErr)
	}
	if err := sqlitex.ExecuteTransient(s.conn, "PRAGMA wal_checkpoint(passive)", nil); err != nil {
		t.Fatal(err)
	}
	fill(1)
	if after, err := s.logSize(); err != nil || after >= before/10 {
		t.Errorf("log of %d bytes after a checkpoint, %d before, error %v", after, before, err)
	}
}
