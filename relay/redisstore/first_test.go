package redisstore_test

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/redistest"
	"github.com/callbackrelay/caddy-relay/relay/internal/storetest"
	"github.com/callbackrelay/caddy-relay/relay/redisstore"
)

// The append-only file holds what the gateway of the first release wrote until it was killed.
func TestFirstRelease(t *testing.T) {
	packed, err := os.Open("testdata/first.aof.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "appendonly.aof"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := redistest.Launch(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Kill)
	s := open(t, func(o *redisstore.Options) { o.Addresses, o.KeyPrefix = []string{first.Addr}, "relay" })
	storetest.First(t, s, func() {
		redistest.Eventually(t, 10*time.Second, "counts", func() bool {
			s.Refresh()
			return len(s.Counts()) == 5
		})
	})
}
