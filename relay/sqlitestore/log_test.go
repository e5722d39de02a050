package sqlitestore

import (
	"os"
	"testing"
)

// What the log holds is known without its file's size, which stays when the writer begins anew.
func TestLogSize(t *testing.T) {
	s := openTemporary(t)
	fill := func(n int) {
		s.write.Lock()
		defer s.write.Unlock()
		for i := range n {
			if err := s.transact(nil, func() error { return s.setMeta("filling", int64(i)) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(100)
	checkpoint := func() error {
		s.write.Lock()
		defer s.write.Unlock()
		return s.db.Writer.Pragma("wal_checkpoint(passive)")
	}
	before, err := s.db.LogBytes()
	info, statErr := os.Stat(s.db.Path() + "-wal")
	if err != nil || statErr != nil || before < 99*4096 || before > info.Size() {
		t.Fatalf("log of %d bytes in a file of %v, errors %v, %v", before, info, err, statErr)
	}
	if err := checkpoint(); err != nil {
		t.Fatal(err)
	}
	fill(1)
	if after, err := s.db.LogBytes(); err != nil || after >= before/10 {
		t.Errorf("log of %d bytes after a checkpoint, %d before, error %v", after, before, err)
	}
}
