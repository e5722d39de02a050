package sqlitestore

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/internal/storetest"
)

// The file was written by the gateway of the first release, which was then killed.
func TestFirstRelease(t *testing.T) {
	packed, err := os.Open("testdata/first.db.gz")
	must(t, err)
	defer func() { must(t, packed.Close()) }()
	r, err := gzip.NewReader(packed)
	must(t, err)
	data, err := io.ReadAll(r)
	must(t, err)
	path := filepath.Join(t.TempDir(), "relay.db")
	must(t, os.WriteFile(path, data, 0o600))
	s := openUntended(t, path)
	defer func() { must(t, s.Close()) }()
	storetest.First(t, s, func() {})
}
