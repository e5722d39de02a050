package sqlitestore

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
)

// A backup by another process ends though callbacks never stop, and holds everything that was answered before it began.
func TestBackupWhileWritten(t *testing.T) {
	for name, commands := range map[string][]string{
		"vacuum": {"VACUUM INTO 'backup.db'"},
		// The transaction keeps one state of the file for the copy, which would begin anew at each commit otherwise.
		"backup": {"BEGIN", "SELECT count(*) FROM sqlite_master", ".backup backup.db"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			p.fill(300)
			before := len(p.ids)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sqlite3", append([]string{"-bail", p.path}, commands...)...)
			cmd.Dir = filepath.Dir(p.path)
			done := make(chan error, 1)
			go func() {
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Logf("the shell says %s", out)
				}
				done <- err
			}()
			for writing := true; writing; {
				select {
				case err := <-done:
					p.must(err)
					writing = false
				default:
					p.fill(1)
				}
			}
			if len(p.ids) == before {
				t.Error("nothing was written meanwhile")
			}
			t.Logf("%d callbacks were answered while the backup was taken", len(p.ids)-before)
			backup, err := Open(t.Context(), Options{Path: filepath.Join(cmd.Dir, "backup.db"), MinFree: 1})
			p.must(err)
			for i, id := range p.ids[:before] {
				if _, err := backup.Event(t.Context(), id); err != nil {
					t.Fatalf("event %d is not in the backup: %v", i, err)
				}
			}
			l := &relay.Lease{Source: "vocals", Destination: "search", Max: before, For: time.Minute}
			if backup.Apply(t.Context(), &relay.Batch{Leases: []*relay.Lease{l}}); l.Err != nil || len(l.Leased) != before {
				t.Errorf("the backup has %d deliveries, %v", len(l.Leased), l.Err)
			}
			p.must(backup.Close())
			p.wantWell()
		})
	}
}
