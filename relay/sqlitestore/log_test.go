package sqlitestore

import (
	"os"
	"testing"

	"zombiezen.com/go/sqlite/sqlitex"
)

// What the log holds is known without its file's size, which stays when the writer begins anew.
func TestLogSize(t *testing.T) {
	s := openTemporary(t)
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
