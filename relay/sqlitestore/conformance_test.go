package sqlitestore_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay/internal/storetest"
	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

func TestConformance(t *testing.T) { storetest.Run(t, openHarness) }

func TestModel(t *testing.T) { storetest.Model(t, openHarness) }

func openHarness(t storetest.T) *storetest.Harness {
	dir, err := os.MkdirTemp("", "relay-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var elapsed atomic.Int64
	begin := time.Now().UTC()
	options := sqlitestore.Options{Path: filepath.Join(dir, "relay.db"), MinFree: 1, Clock: sqlitestore.Clock{
		Elapsed: func() time.Duration { return time.Duration(elapsed.Load()) },
		Wall:    func() time.Time { return begin.Add(time.Duration(elapsed.Load())) },
	}}
	h := &storetest.Harness{
		VoidsLeases: true,
		Advance:     func(d time.Duration) { elapsed.Add(int64(d)) },
	}
	open := func() {
		s, err := sqlitestore.Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		h.Store = s
	}
	h.Reopen = func() {
		if err := h.Store.Close(); err != nil {
			t.Fatal(err)
		}
		open()
	}
	open()
	t.Cleanup(func() {
		if err := h.Store.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}
