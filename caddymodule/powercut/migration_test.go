package powercut

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/callbackrelay/caddy-relay/relay/sqlitestore"
)

// A file of the first release is brought up to date. Whenever the power fails, the next start finds everything that was in
// it, in the state that it had.
func TestMigration(t *testing.T) {
	consumer := newConsumer(t)
	g := newGateway(t)
	g.configure("\t\tstore sqlite\n\t\tretention 1000000h\n\t\tdead_letter_retention 1000000h", `	relay /callbacks vocals {
		to moody `+consumer.URL+`/moody {
			max_in_flight 16
		}
	}`)
	path := filepath.Join(g.data(), "caddy", "relay", "relay.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	unpack(t, path)
	copied := filepath.Join(t.TempDir(), "relay.db")
	unpack(t, copied)
	s, err := sqlitestore.Open(t.Context(), sqlitestore.Options{Path: copied, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	old, err := readEvents(s)
	if err != nil || len(old) == 0 {
		t.Fatalf("the old file has %d events, %v", len(old), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l := newLoad()
	g.start(0)
	l.send(g, 30, nil)
	g.stop()
	recordingOf(g, l).check(25, judge{slots: map[string]int{"moody": 16}, old: old}.verdict)
}

// unpack writes the file of the first release.
func unpack(t *testing.T, path string) {
	t.Helper()
	packed, err := os.Open("../../relay/sqlitestore/testdata/first.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	content, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
