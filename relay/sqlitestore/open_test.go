package sqlitestore

import (
	"path/filepath"
	"testing"
)

// openTemporary opens a new store, and closes it with the test.
func openTemporary(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "relay.db"), MinFree: 1})
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
